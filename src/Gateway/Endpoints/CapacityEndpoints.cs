using System.Text.Json;
using GpuTasks.Dispatch;
using GpuTasks.Functions;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Validation;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>Put, Get, Delete and List of concurrency, provision and scaling configs.</summary>
internal static class CapacityEndpoints
{
    private const int DefaultPage = 100;

    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapApi("PUT", "/functions/{function}/concurrency", PutConcurrencyAsync);
        api.MapApi("GET", "/functions/{function}/concurrency", GetConcurrencyAsync);
        api.MapApi("DELETE", "/functions/{function}/concurrency", DeleteConcurrencyAsync);
        api.MapApi("GET", "/concurrency-configs", ListConcurrencyAsync);
        api.MapApi("PUT", "/functions/{function}/provision-config", PutProvisionAsync);
        api.MapApi("GET", "/functions/{function}/provision-config", GetProvisionAsync);
        api.MapApi("DELETE", "/functions/{function}/provision-config", DeleteProvisionAsync);
        api.MapApi("GET", "/provision-configs", ListProvisionAsync);
        api.MapApi("PUT", "/functions/{function}/scaling-config", PutScalingAsync);
        api.MapApi("GET", "/functions/{function}/scaling-config", GetScalingAsync);
        api.MapApi("DELETE", "/functions/{function}/scaling-config", DeleteScalingAsync);
        api.MapApi("GET", "/scaling-configs", ListScalingAsync);
    }

    private static async Task PutConcurrencyAsync(ApiCall call)
    {
        using var body = call.JsonBody();
        var reserved = CapacityInput.Concurrency(body.RootElement);
        var function = await ChangeAsync(call, Names.Latest, capacity => capacity with { ReservedConcurrency = reserved });
        await call.JsonAsync(json => CapacityJson.WriteConcurrency(json, ArnOf(call, function), reserved));
    }

    private static async Task GetConcurrencyAsync(ApiCall call)
    {
        var function = await call.NeedFunctionAsync(call.Function);
        var reserved = function.Capacity.ReservedConcurrency ?? throw ApiErrors.OnDemandConfigNotFound(function.Spec.Name);
        await call.JsonAsync(json => CapacityJson.WriteConcurrency(json, ArnOf(call, function), reserved));
    }

    private static async Task DeleteConcurrencyAsync(ApiCall call)
    {
        await ChangeAsync(call, Names.Latest, capacity => capacity.ReservedConcurrency is null
            ? throw ApiErrors.OnDemandConfigNotFound(call.Function)
            : capacity with { ReservedConcurrency = null });
        await call.NoContentAsync();
    }

    private static Task ListConcurrencyAsync(ApiCall call) => ListAsync(
        call,
        "configs",
        function => function.Capacity.ReservedConcurrency is null ? [] : [Names.Latest],
        (json, function, _, _) => CapacityJson.WriteConcurrency(json, ArnOf(call, function), function.Capacity.ReservedConcurrency!.Value),
        withView: false);

    private static async Task PutProvisionAsync(ApiCall call)
    {
        using var body = call.JsonBody();
        var config = CapacityInput.Provision(body.RootElement);
        var qualifier = call.Qualifier;
        var function = await ChangeAsync(call, qualifier, capacity => capacity with { Provision = With(capacity.Provision, qualifier, config) });
        var view = await ViewAsync(call, function, qualifier);
        await call.JsonAsync(json => CapacityJson.WriteProvision(json, ArnOf(call, function, qualifier), config, view));
    }

    private static async Task GetProvisionAsync(ApiCall call)
    {
        var function = await call.NeedFunctionAsync(call.Function);
        var qualifier = AsyncInvokeConfigEndpoints.NeedQualifier(function, call.Qualifier);
        var config = function.Capacity.Provision.GetValueOrDefault(qualifier);
        var view = config is null ? new CapacityView() : await ViewAsync(call, function, qualifier);
        await call.JsonAsync(json => CapacityJson.WriteProvision(json, config is null ? "" : ArnOf(call, function, qualifier), config, view));
    }

    /// <summary>Also without a config: then what the caller wants is so already.</summary>
    private static async Task DeleteProvisionAsync(ApiCall call)
    {
        var qualifier = call.Qualifier;
        await ChangeAsync(call, qualifier, capacity => capacity with { Provision = With(capacity.Provision, qualifier, null) });
        await call.NoContentAsync();
    }

    private static Task ListProvisionAsync(ApiCall call) => ListAsync(
        call,
        "provisionConfigs",
        function => function.Capacity.Provision.Keys,
        (json, function, qualifier, view) => CapacityJson.WriteProvision(json, ArnOf(call, function, qualifier), function.Capacity.Provision[qualifier], view));

    private static async Task PutScalingAsync(ApiCall call)
    {
        using var body = call.JsonBody();
        var config = CapacityInput.Scaling(body.RootElement);
        var qualifier = call.Qualifier;
        var function = await ChangeAsync(call, qualifier, capacity => capacity with { Scaling = With(capacity.Scaling, qualifier, config) });
        var view = await ViewAsync(call, function, qualifier);
        await call.JsonAsync(json => CapacityJson.WriteScaling(json, ArnOf(call, function, qualifier), config, view));
    }

    private static async Task GetScalingAsync(ApiCall call)
    {
        var function = await call.NeedFunctionAsync(call.Function);
        var qualifier = AsyncInvokeConfigEndpoints.NeedQualifier(function, call.Qualifier);
        var config = function.Capacity.Scaling.GetValueOrDefault(qualifier);
        var view = config is null ? new CapacityView() : await ViewAsync(call, function, qualifier);
        await call.JsonAsync(json => CapacityJson.WriteScaling(json, config is null ? "" : ArnOf(call, function, qualifier), config, view));
    }

    private static async Task DeleteScalingAsync(ApiCall call)
    {
        var qualifier = call.Qualifier;
        await ChangeAsync(call, qualifier, capacity => capacity with { Scaling = With(capacity.Scaling, qualifier, null) });
        await call.NoContentAsync();
    }

    private static Task ListScalingAsync(ApiCall call) => ListAsync(
        call,
        "scalingConfigs",
        function => function.Capacity.Scaling.Keys,
        (json, function, qualifier, view) => CapacityJson.WriteScaling(json, ArnOf(call, function, qualifier), function.Capacity.Scaling[qualifier], view));

    private static async Task ListAsync(
        ApiCall call, string name, Func<FunctionSnapshot, IEnumerable<string>> qualifiers, Action<Utf8JsonWriter, FunctionSnapshot, string, CapacityView> write, bool withView = true)
    {
        var (configs, nextToken) = await FunctionPages.ReadPartsAsync(call, call.Query.Text("functionName", 128), call.Query.Limit(DefaultPage), qualifiers);
        var views = withView ? await Task.WhenAll(configs.Select(config => ViewAsync(call, config.Function, config.Part))) : [];
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray(name);
            for (var i = 0; i < configs.Count; i++)
            {
                write(json, configs[i].Function, configs[i].Part, withView ? views[i] : new CapacityView());
            }

            json.WriteEndArray();
            FunctionPages.WriteNextToken(json, nextToken);
            json.WriteEndObject();
        });
    }

    private static Task<FunctionSnapshot> ChangeAsync(ApiCall call, string qualifier, Func<FunctionCapacity, FunctionCapacity> change) => FunctionEndpoints.ChangeAsync(
        call,
        call.Function,
        (grain, now) =>
        {
            AsyncInvokeConfigEndpoints.NeedQualifier(now, qualifier);
            return grain.SetCapacity(change(now.Capacity), now.Revision, CancellationToken.None);
        });

    private static Dictionary<string, T> With<T>(IReadOnlyDictionary<string, T> configs, string qualifier, T? config)
        where T : class
    {
        var next = new Dictionary<string, T>(configs);
        next.Remove(qualifier);
        if (config is not null)
        {
            next.Add(qualifier, config);
        }

        return next;
    }

    private static async Task<CapacityView> ViewAsync(ApiCall call, FunctionSnapshot function, string qualifier)
    {
        // The version that keeps the instances: of an alias the one that it names first.
        var version = qualifier == Names.Latest ? null : function.Aliases.TryGetValue(qualifier, out var alias) ? alias.VersionId : qualifier;
        var dispatcher = call.Grains.GetGrain<IDispatcherGrain>((function.Definition with { Version = version }).ToString());
        return await call.InTimeAsync(() => dispatcher.GetCapacityOf(qualifier, call.Aborted));
    }

    private static string ArnOf(ApiCall call, FunctionSnapshot function, string qualifier = Names.Latest) =>
        Arn.Function(call.Options, function.Account, function.Spec.Name, qualifier);
}
