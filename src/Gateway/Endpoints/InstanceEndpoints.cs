using GpuTasks.Dispatch;
using GpuTasks.Functions;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Validation;
using GpuTasks.Nodes;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>ListInstances: the instances there are now, as their dispatchers know them.</summary>
internal static class InstanceEndpoints
{
    private const int DefaultPage = 100;
    private const long LastMillisecond = 253_402_300_799_999;

    public static void Map(IEndpointRouteBuilder api) => api.MapApi("GET", "/functions/{function}/instances", ListAsync);

    private static async Task ListAsync(ApiCall call)
    {
        var function = await call.NeedFunctionAsync(call.Function);
        var query = call.Query;
        var ids = query.Texts("instanceIds", 100);
        var statuses = query.Texts("instanceStatus", 20);
        var from = query.Integer("startTimeMs", 0, LastMillisecond);
        var to = query.Integer("endTimeMs", 0, LastMillisecond);
        var after = query.Text("startKey", 128);
        var limit = (int)(query.Integer("limit", 1, 1_000) ?? DefaultPage);

        // Only those that are there can be listed, so all active ones are what is listed in any case.
        query.Flag("withAllActive");
        var qualifier = query.Text("qualifier") is null ? null : call.Qualifier;
        var found = new List<(InstanceStatus Instance, string? Version)>();
        foreach (var definition in await DefinitionsAsync(call, function, qualifier))
        {
            var status = await call.InTimeAsync(() => call.Grains.GetGrain<IDispatcherGrain>(definition.ToString()).GetStatus(call.Aborted));
            found.AddRange(status.Instances.Where(Fits).Select(instance => (instance, definition.Version)));
        }

        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("instances");
            foreach (var (instance, version) in found.OrderBy(found => found.Instance.InstanceId, StringComparer.Ordinal).Take(limit))
            {
                json.WriteStartObject();
                json.WriteString("instanceId", instance.InstanceId);
                json.WriteString("versionId", version ?? "0");
                json.WriteString("qualifier", qualifier ?? version ?? Names.Latest);
                json.WriteString("status", StatusOf(instance));
                json.WriteString("resourceType", "FUNCTION");
                json.WriteNumber("createdTimeMs", instance.CreatedAt.ToUnixTimeMilliseconds());
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteString("requestId", call.RequestId);
            json.WriteEndObject();
        });

        bool Fits(InstanceStatus instance) =>
            instance.State is not (InstanceState.Gone or InstanceState.Stopping)
            && (ids is null or { Count: 0 } || ids.Contains(instance.InstanceId))
            && (statuses is null or { Count: 0 } || statuses.Contains(StatusOf(instance), StringComparer.OrdinalIgnoreCase))
            && (from is null || instance.CreatedAt.ToUnixTimeMilliseconds() >= from)
            && (to is null || instance.CreatedAt.ToUnixTimeMilliseconds() <= to)
            && (after is null || string.CompareOrdinal(instance.InstanceId, after) > 0);
    }

    /// <summary>The definitions that a qualifier may stand for: with weights an alias has several.</summary>
    private static async Task<IReadOnlyList<DefinitionKey>> DefinitionsAsync(ApiCall call, FunctionSnapshot function, string? qualifier)
    {
        if (qualifier is null)
        {
            return [function.Definition, .. function.Versions.Select(version => function.Definition with { Version = version.VersionId })];
        }

        if (function.Aliases.TryGetValue(qualifier, out var alias))
        {
            return [.. alias.AdditionalWeights.Keys.Prepend(alias.VersionId).Select(version => function.Definition with { Version = version })];
        }

        return [(await call.NeedDefinitionAsync(function.Spec.Name, qualifier)).Definition];
    }

    private static string StatusOf(InstanceStatus instance) => instance.State switch
    {
        InstanceState.Creating or InstanceState.Starting => "Starting",
        _ => "Running",
    };
}
