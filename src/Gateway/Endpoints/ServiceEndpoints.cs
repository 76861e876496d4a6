using GpuTasks.Functions;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Validation;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>
/// DisableFunctionInvocation, EnableFunctionInvocation, GetFunctionCode, DescribeRegions, and a clear no to what the contract
/// has and this platform has not.
/// </summary>
internal static class ServiceEndpoints
{
    private static readonly (string Segment, string What)[] NotOffered =
    [
        ("custom-domains", "custom domains"),
        ("layers", "layers: put what a function needs into its image"),
        ("layerarn", "layers: put what a function needs into its image"),
        ("resource-groups", "resource groups"),
        ("vpc-bindings", "networks to bind functions to"),
        ("sessions", "sessions"),
    ];

    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapApi("POST", "/functions/{function}/invoke/disable", DisableAsync);
        api.MapApi("POST", "/functions/{function}/invoke/enable", call => RestrictAsync(call, new InvocationRestriction()));
        api.MapApi("GET", "/functions/{function}/code", GetCodeAsync);
        api.MapApi("GET", "/regions", DescribeRegionsAsync);
    }

    /// <summary>The answer to a path that leads nowhere.</summary>
    public static ApiException Refusal(HttpRequest request)
    {
        // /2023-03-30/custom-domains or /2023-03-30/functions/{function}/sessions, and what follows.
        var segment = (request.Path.Value ?? "").Split('/') switch
        {
            [_, "2023-03-30", "functions", _, var of, ..] => of,
            [_, "2023-03-30", var of, ..] => of,
            _ => "",
        };
        var (_, what) = NotOffered.FirstOrDefault(part => part.Segment == segment);
        return what is null ? ApiErrors.PathNotSupported(request.Method, request.Path) : ApiErrors.NotOffered(what);
    }

    private static async Task DisableAsync(ApiCall call)
    {
        var restriction = new InvocationRestriction { Disabled = true };
        if (call.Body.Length > 0)
        {
            using var body = call.JsonBody();
            var faults = new Faults();
            var fields = new JsonFields(body.RootElement, faults);
            restriction = restriction with { Reason = fields.Text("reason", 256) ?? "", Abort = fields.Flag("abortOngoingRequest") ?? false };
            faults.Throw();
        }

        await RestrictAsync(call, restriction);
    }

    private static async Task RestrictAsync(ApiCall call, InvocationRestriction restriction)
    {
        var name = call.Function;
        if (await call.InTimeAsync(() => call.FunctionGrain(name).SetRestriction(restriction, CancellationToken.None)) == FunctionChange.NotFound)
        {
            throw ApiErrors.FunctionNotFound(name);
        }

        call.FunctionChanged(name);
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteBoolean("success", true);
            json.WriteEndObject();
        });
    }

    /// <summary>The code of a container is its image, which its registry gives out; there is nothing to load from here.</summary>
    private static async Task GetCodeAsync(ApiCall call)
    {
        var function = await call.NeedDefinitionAsync(call.Function, call.Qualifier);
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteString("url", "");
            json.WriteString("checksum", FunctionJson.Checksum(function));
            json.WriteEndObject();
        });
    }

    private static Task DescribeRegionsAsync(ApiCall call) => call.JsonAsync(json =>
    {
        json.WriteStartObject();
        json.WriteStartObject("Regions");
        json.WriteStartArray("Region");
        json.WriteStartObject();
        json.WriteString("RegionId", call.Options.Region);
        json.WriteString("LocalName", call.Options.Region);
        json.WriteEndObject();
        json.WriteEndArray();
        json.WriteEndObject();
        json.WriteString("RequestId", call.RequestId);
        json.WriteEndObject();
    });
}
