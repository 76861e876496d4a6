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
        var function = await ChangeAsync(call, capacity => capacity with { ReservedConcurrency = reserved });
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
        await ChangeAsync(call, capacity => capacity.ReservedConcurrency is null
            ? throw ApiErrors.OnDemandConfigNotFound(call.Function)
            : capacity with { ReservedConcurrency = null });
        await call.NoContentAsync();
    }

    private static Task ListConcurrencyAsync(ApiCall call) => ListAsync(
        call,
        "configs",
        function => function.Capacity.ReservedConcurrency is not null,
        (json, function, _) => CapacityJson.WriteConcurrency(json, ArnOf(call, function), function.Capacity.ReservedConcurrency!.Value),
        withView: false);

    private static async Task PutProvisionAsync(ApiCall call)
    {
        using var body = call.JsonBody();
        var config = CapacityInput.Provision(body.RootElement);
        var qualifier = Names.CheckQualifier(call.Query.Text("qualifier"));
        var function = await ChangeAsync(call, capacity => capacity with { Provision = With(capacity.Provision, qualifier, config) });
        var view = await ViewAsync(call, function);
        await call.JsonAsync(json => CapacityJson.WriteProvision(json, ArnOf(call, function), config, view));
    }

    private static async Task GetProvisionAsync(ApiCall call)
    {
        var function = await call.NeedFunctionAsync(call.Function);
        var config = function.Capacity.Provision.GetValueOrDefault(Names.CheckQualifier(call.Query.Text("qualifier")));
        var view = config is null ? new CapacityView() : await ViewAsync(call, function);
        await call.JsonAsync(json => CapacityJson.WriteProvision(json, config is null ? "" : ArnOf(call, function), config, view));
    }

    /// <summary>Also without a config: then what the caller wants is so already.</summary>
    private static async Task DeleteProvisionAsync(ApiCall call)
    {
        var qualifier = Names.CheckQualifier(call.Query.Text("qualifier"));
        await ChangeAsync(call, capacity => capacity with { Provision = With(capacity.Provision, qualifier, null) });
        await call.NoContentAsync();
    }

    private static Task ListProvisionAsync(ApiCall call) => ListAsync(
        call,
        "provisionConfigs",
        function => function.Capacity.Provision.ContainsKey(Names.Latest),
        (json, function, view) => CapacityJson.WriteProvision(json, ArnOf(call, function), function.Capacity.Provision[Names.Latest], view));

    private static async Task PutScalingAsync(ApiCall call)
    {
        using var body = call.JsonBody();
        var config = CapacityInput.Scaling(body.RootElement);
        var qualifier = Names.CheckQualifier(call.Query.Text("qualifier"));
        var function = await ChangeAsync(call, capacity => capacity with { Scaling = With(capacity.Scaling, qualifier, config) });
        var view = await ViewAsync(call, function);
        await call.JsonAsync(json => CapacityJson.WriteScaling(json, ArnOf(call, function), config, view));
    }

    private static async Task GetScalingAsync(ApiCall call)
    {
        var function = await call.NeedFunctionAsync(call.Function);
        var config = function.Capacity.Scaling.GetValueOrDefault(Names.CheckQualifier(call.Query.Text("qualifier")));
        var view = config is null ? new CapacityView() : await ViewAsync(call, function);
        await call.JsonAsync(json => CapacityJson.WriteScaling(json, config is null ? "" : ArnOf(call, function), config, view));
    }

    private static async Task DeleteScalingAsync(ApiCall call)
    {
        var qualifier = Names.CheckQualifier(call.Query.Text("qualifier"));
        await ChangeAsync(call, capacity => capacity with { Scaling = With(capacity.Scaling, qualifier, null) });
        await call.NoContentAsync();
    }

    private static Task ListScalingAsync(ApiCall call) => ListAsync(
        call,
        "scalingConfigs",
        function => function.Capacity.Scaling.ContainsKey(Names.Latest),
        (json, function, view) => CapacityJson.WriteScaling(json, ArnOf(call, function), function.Capacity.Scaling[Names.Latest], view));

    private static async Task ListAsync(
        ApiCall call, string name, Func<FunctionSnapshot, bool> has, Action<Utf8JsonWriter, FunctionSnapshot, CapacityView> write, bool withView = true)
    {
        var only = call.Query.Text("functionName", 128);
        var (functions, nextToken) = await FunctionPages.ReadAsync(
            call, only ?? "", call.Query.PageAfter(), call.Query.Limit(DefaultPage), function => has(function) && (only is null || function.Spec.Name == only));
        var views = withView ? await Task.WhenAll(functions.Select(function => ViewAsync(call, function))) : [];
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray(name);
            for (var i = 0; i < functions.Count; i++)
            {
                write(json, functions[i], withView ? views[i] : new CapacityView());
            }

            json.WriteEndArray();
            FunctionPages.WriteNextToken(json, nextToken);
            json.WriteEndObject();
        });
    }

    private static Task<FunctionSnapshot> ChangeAsync(ApiCall call, Func<FunctionCapacity, FunctionCapacity> change) => FunctionEndpoints.ChangeAsync(
        call, call.Function, (grain, now) => grain.SetCapacity(change(now.Capacity), now.Revision, CancellationToken.None));

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

    private static async Task<CapacityView> ViewAsync(ApiCall call, FunctionSnapshot function) =>
        await call.InTimeAsync(call.Grains.GetGrain<IDispatcherGrain>($"{function.Account}/{function.Spec.Name}").GetCapacity(call.Aborted));

    private static string ArnOf(ApiCall call, FunctionSnapshot function) => Arn.Function(call.Options, function.Account, function.Spec.Name);
}
