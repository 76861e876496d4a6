using GpuTasks.Functions;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Validation;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>PutAsyncInvokeConfig, GetAsyncInvokeConfig, DeleteAsyncInvokeConfig, ListAsyncInvokeConfigs.</summary>
internal static class AsyncInvokeConfigEndpoints
{
    private const int DefaultPage = 100;

    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapApi("PUT", "/functions/{function}/async-invoke-config", PutAsync);
        api.MapApi("GET", "/functions/{function}/async-invoke-config", GetAsync);
        api.MapApi("DELETE", "/functions/{function}/async-invoke-config", DeleteAsync);
        api.MapApi("GET", "/async-invoke-configs", ListAsync);
    }

    private static async Task PutAsync(ApiCall call)
    {
        using var body = call.JsonBody();
        AsyncInvokeConfig? put = null;
        var qualifier = call.Qualifier;
        var function = await FunctionEndpoints.ChangeAsync(call, call.Function, async (grain, now) =>
        {
            NeedQualifier(now, qualifier);
            put = AsyncConfigInput.Merge(body.RootElement, now.AsyncConfigs.GetValueOrDefault(qualifier), call.Account);
            await DestinationEndpoints.CheckAsync(call, put, now.AsyncConfigs.GetValueOrDefault(qualifier));
            return await grain.SetAsyncConfig(qualifier, put, now.Revision, CancellationToken.None);
        });

        // Somebody may have removed it since; what was put is still the truth of this call.
        await AnswerAsync(call, function, qualifier, function.AsyncConfigs.GetValueOrDefault(qualifier) ?? put!);
    }

    private static async Task GetAsync(ApiCall call)
    {
        var function = await call.NeedFunctionAsync(call.Function);
        var qualifier = call.Qualifier;
        NeedQualifier(function, qualifier);
        await AnswerAsync(call, function, qualifier, function.AsyncConfigs.GetValueOrDefault(qualifier) ?? throw ApiErrors.AsyncConfigNotExists(function.Spec.Name));
    }

    private static async Task DeleteAsync(ApiCall call)
    {
        var name = call.Function;
        var qualifier = call.Qualifier;
        await FunctionEndpoints.ChangeAsync(call, name, (grain, now) =>
        {
            NeedQualifier(now, qualifier);
            return now.AsyncConfigs.ContainsKey(qualifier)
                ? grain.SetAsyncConfig(qualifier, null, now.Revision, CancellationToken.None)
                : throw ApiErrors.AsyncConfigNotExists(name);
        });
        await call.NoContentAsync();
    }

    private static async Task ListAsync(ApiCall call)
    {
        var name = call.Query.Text("functionName", 128);
        var (configs, nextToken) = await FunctionPages.ReadPartsAsync(
            call, name, call.Query.Limit(DefaultPage), function => function.AsyncConfigs.Keys);
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("configs");
            foreach (var (function, qualifier) in configs)
            {
                FunctionJson.WriteAsyncConfig(json, function, qualifier, function.AsyncConfigs[qualifier], call.Options);
            }

            json.WriteEndArray();
            FunctionPages.WriteNextToken(json, nextToken);
            json.WriteEndObject();
        });
    }

    /// <summary>A qualifier that the function has.</summary>
    public static string NeedQualifier(FunctionSnapshot function, string? given)
    {
        var qualifier = Names.CheckQualifier(given);
        return function.TryResolve(qualifier, "", out _) ? qualifier : throw ApiErrors.QualifierNotFound(qualifier);
    }

    private static Task AnswerAsync(ApiCall call, FunctionSnapshot function, string qualifier, AsyncInvokeConfig config) =>
        call.JsonAsync(json => FunctionJson.WriteAsyncConfig(json, function, qualifier, config, call.Options));
}
