using System.Text.Json;
using GpuTasks.Functions;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Validation;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>PublishFunctionVersion, ListFunctionVersions, DeleteFunctionVersion.</summary>
internal static class VersionEndpoints
{
    private const int DefaultPage = 20;

    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapApi("POST", "/functions/{function}/versions", PublishAsync);
        api.MapApi("GET", "/functions/{function}/versions", ListAsync);
        api.MapApi("DELETE", "/functions/{function}/versions/{version}", DeleteAsync);
    }

    private static async Task PublishAsync(ApiCall call)
    {
        var name = call.Function;
        var description = "";
        if (call.Body.Length > 0)
        {
            using var body = call.JsonBody();
            var faults = new Faults();
            description = new JsonFields(body.RootElement, faults).Text("description", 256) ?? "";
            faults.Throw();
        }

        var answer = await call.FunctionGrain(name).PublishVersion(description, CancellationToken.None);
        var version = answer.Change switch
        {
            FunctionChange.Done => answer.Version!,
            FunctionChange.TooMany => throw ApiErrors.LimitExceeded($"Function '{name}' has as many versions as one function may have; delete old ones first."),
            _ => throw ApiErrors.FunctionNotFound(name),
        };
        call.FunctionChanged(name);
        await call.JsonAsync(json => Write(json, version));
    }

    private static async Task ListAsync(ApiCall call)
    {
        var direction = call.Query.Text("direction");
        var forward = "FORWARD".Equals(direction, StringComparison.OrdinalIgnoreCase);
        if (direction is not null && !forward && !"BACKWARD".Equals(direction, StringComparison.OrdinalIgnoreCase))
        {
            throw ApiErrors.InvalidArgument($"direction: must be FORWARD or BACKWARD, was '{Names.Shown(direction)}'.");
        }

        var limit = call.Query.Limit(DefaultPage);
        var after = call.Query.After(Names.IsVersion);
        var function = await call.NeedFunctionAsync(call.Function);
        var all = function.Versions.Select(version => (Number: int.Parse(version.VersionId), version));
        var rest = forward ? all.OrderBy(v => v.Number) : all.OrderByDescending(v => v.Number);
        var page = rest
            .Where(v => after is null || (forward ? v.Number > int.Parse(after) : v.Number < int.Parse(after)))
            .Select(v => v.version)
            .Take(limit + 1).ToList();
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("versions");
            foreach (var version in page.Take(limit))
            {
                Write(json, version);
            }

            json.WriteEndArray();
            json.WriteString("direction", forward ? "FORWARD" : "BACKWARD");
            FunctionPages.WriteNextToken(json, page.Count > limit ? page[limit - 1].VersionId : null);
            json.WriteEndObject();
        });
    }

    private static async Task DeleteAsync(ApiCall call)
    {
        var version = call.Version;
        await FunctionEndpoints.ChangeAsync(call, call.Function, (grain, now) =>
        {
            if (now.Versions.All(published => published.VersionId != version))
            {
                throw ApiErrors.VersionNotFound(version);
            }

            foreach (var (name, alias) in now.Aliases)
            {
                if (alias.VersionId == version || alias.AdditionalWeights.ContainsKey(version))
                {
                    throw ApiErrors.InvalidArgument($"versionId: version '{version}' is used by alias '{name}'; point the alias elsewhere or delete it first.");
                }
            }

            return grain.DeleteVersion(version, now.Revision, CancellationToken.None);
        });
        await call.NoContentAsync();
    }

    private static void Write(Utf8JsonWriter json, FunctionVersion version)
    {
        json.WriteStartObject();
        json.WriteString("versionId", version.VersionId);
        json.WriteString("description", version.Description);
        json.WriteString("createdTime", FunctionJson.Time(version.CreatedAt));
        json.WriteString("lastModifiedTime", FunctionJson.Time(version.CreatedAt));
        json.WriteEndObject();
    }
}
