using GpuTasks.Gateway.Http;
using GpuTasks.Security;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>The log of changes: an account sees its own, the operator all or one account's.</summary>
internal static class AuditEndpoints
{
    public static void Map(IEndpointRouteBuilder v1) => v1.MapApi("GET", "/audit", ListAsync, Access.AccountOrOperator);

    private static async Task ListAsync(ApiCall call)
    {
        var account = call.IsOperator ? call.Query.Text("account", 64) : call.Account;
        var limit = call.Query.Limit(ifAbsent: 100);
        AuditPage page;
        try
        {
            page = await call.InTimeAsync(call.Grains.GetGrain<IAuditGrain>("audit").List(account, call.Query.Text("nextToken", 32), limit, call.Aborted));
        }
        catch (FormatException)
        {
            throw ApiErrors.InvalidArgument("nextToken: must be one that an earlier page gave.");
        }

        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("entries");
            foreach (var entry in page.Entries)
            {
                json.WriteStartObject();
                TaskJson.WriteTime(json, "at", entry.At);
                json.WriteString("account", entry.Account);
                json.WriteString("actor", entry.Actor);
                json.WriteString("action", entry.Action);
                json.WriteString("resource", entry.Resource);
                json.WriteString("source", entry.Source);
                json.WriteString("requestId", entry.RequestId);
                json.WriteNumber("status", entry.Status);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            if (page.NextToken is not null)
            {
                json.WriteString("nextToken", page.NextToken);
            }

            json.WriteEndObject();
        });
    }
}
