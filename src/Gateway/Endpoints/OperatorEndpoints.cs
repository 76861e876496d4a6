using System.Text.Json;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Validation;
using GpuTasks.Nodes;
using GpuTasks.Quota;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>What operators see and set: quotas, nodes and cards, their drains.</summary>
internal static class OperatorEndpoints
{
    private const int MaxMilliCards = 1_000_000_000;
    private const int MaxWeight = 1_000;
    private const int MaxDrainSeconds = 30 * 86_400;

    public static void Map(IEndpointRouteBuilder v1)
    {
        v1.MapApi("GET", "/accounts/{account}/quota", GetQuotaAsync, Access.AccountOrOperator);
        v1.MapApi("PUT", "/accounts/{account}/quota", PutQuotaAsync, Access.Operator);
        v1.MapApi("GET", "/nodes", GetNodesAsync, Access.Operator);
        v1.MapApi("POST", "/nodes/{node}:drain", call => ChangeNodeAsync(call, (region, node) => region.DrainNode(node, ReadDeadline(call), CancellationToken.None)), Access.Operator);
        v1.MapApi("POST", "/nodes/{node}:undrain", call => ChangeNodeAsync(call, (region, node) => region.UndrainNode(node, CancellationToken.None)), Access.Operator);
        v1.MapApi("POST", "/nodes/{node}:lost", DeclareLostAsync, Access.Operator);
        v1.MapApi("POST", "/cards/{card}:drain", call => ChangeCardAsync(call, (region, card) => region.DrainCard(card, ReadDeadline(call), CancellationToken.None)), Access.Operator);
        v1.MapApi("POST", "/cards/{card}:undrain", call => ChangeCardAsync(call, (region, card) => region.UndrainCard(card, CancellationToken.None)), Access.Operator);
    }

    public static void WriteQuota(Utf8JsonWriter json, QuotaStatus quota, GatewayOptions options)
    {
        json.WriteStartObject();
        json.WriteString("account", quota.Account);
        json.WriteString("region", options.Region);
        json.WriteNumber("limitMilliCards", quota.LimitMilliCards);
        json.WriteNumber("weight", quota.Weight);
        json.WriteNumber("heldMilliCards", quota.HeldMilliCards);
        json.WriteNumber("instances", quota.Instances);
        json.WriteEndObject();
    }

    /// <summary>The operator's word that a silent node is gone for good.</summary>
    private static async Task DeclareLostAsync(ApiCall call)
    {
        var node = call.Named("node");
        switch (await call.InTimeAsync(() => Region(call).DeclareLost(node, CancellationToken.None)))
        {
            case DeclareLostOutcome.Unknown:
                throw ApiErrors.NodeNotFound(node);
            case DeclareLostOutcome.Reachable:
                throw new ApiException(StatusCodes.Status409Conflict, "NodeReachable", $"Node '{node}' reports, so it is not lost. Drain or stop it.");
            default:
                await call.NoContentAsync();
                break;
        }
    }

    private static async Task GetQuotaAsync(ApiCall call)
    {
        var account = call.Named("account");
        if (!call.IsOperator && account != call.Account)
        {
            throw ApiErrors.AccessDenied("An account may see its own quota only.");
        }

        var quota = await call.InTimeAsync(Region(call).GetQuota(account, call.Aborted));
        await call.JsonAsync(json => WriteQuota(json, quota, call.Options));
    }

    /// <summary>What is not named keeps its value. It counts at once for what is granted next; nothing that runs is touched.</summary>
    private static async Task PutQuotaAsync(ApiCall call)
    {
        var account = call.Named("account");
        using var body = call.JsonBody();
        var faults = new Faults();
        var fields = new JsonFields(body.RootElement, faults);
        var limit = fields.Integer("limitMilliCards", 0, MaxMilliCards);
        var weight = fields.Integer("weight", 1, MaxWeight);
        if (!fields.Has("limitMilliCards") && !fields.Has("weight"))
        {
            faults.Add("limitMilliCards, weight", "at least one of them is required");
        }

        faults.Throw();
        var now = await call.InTimeAsync(Region(call).GetQuota(account, call.Aborted));
        var quota = await call.InTimeAsync(Region(call).SetQuota(account, limit ?? now.LimitMilliCards, weight ?? now.Weight, CancellationToken.None));
        await call.JsonAsync(json => WriteQuota(json, quota, call.Options));
    }

    private static async Task ChangeNodeAsync(ApiCall call, Func<IRegionQuotaGrain, string, Task<bool>> change)
    {
        var name = call.Named("node");
        if (!await call.InTimeAsync(change(Region(call), name)))
        {
            throw ApiErrors.NodeNotFound(name);
        }

        var nodes = await call.InTimeAsync(Region(call).GetNodes(call.Aborted));
        var node = nodes.FirstOrDefault(node => node.Report.Node == name) ?? throw ApiErrors.NodeNotFound(name);
        await call.JsonAsync(json => WriteNode(json, node));
    }

    private static async Task ChangeCardAsync(ApiCall call, Func<IRegionQuotaGrain, string, Task<bool>> change)
    {
        var uuid = call.Named("card");
        if (!await call.InTimeAsync(change(Region(call), uuid)))
        {
            throw ApiErrors.CardNotFound(uuid);
        }

        var nodes = await call.InTimeAsync(Region(call).GetNodes(call.Aborted));
        var node = nodes.FirstOrDefault(node => node.Report.Cards.Any(card => card.Uuid == uuid)) ?? throw ApiErrors.CardNotFound(uuid);
        await call.JsonAsync(json => WriteNode(json, node));
    }

    /// <summary>An empty body, or none, waits for every run.</summary>
    private static TimeSpan? ReadDeadline(ApiCall call)
    {
        if (call.Body.Length == 0)
        {
            return null;
        }

        using var body = call.JsonBody();
        var faults = new Faults();
        var seconds = new JsonFields(body.RootElement, faults).Integer("deadlineSeconds", 0, MaxDrainSeconds);
        faults.Throw();
        return seconds is { } given ? TimeSpan.FromSeconds(given) : null;
    }

    private static async Task GetNodesAsync(ApiCall call)
    {
        var nodes = await call.InTimeAsync(Region(call).GetNodes(call.Aborted));
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("nodes");
            foreach (var node in nodes)
            {
                WriteNode(json, node);
            }

            json.WriteEndArray();
            json.WriteEndObject();
        });
    }

    private static void WriteNode(Utf8JsonWriter json, NodeStatus node)
    {
        json.WriteStartObject();
        json.WriteString("node", node.Report.Node);
        json.WriteBoolean("reachable", node.Reachable);
        TaskJson.WriteTime(json, "lastSeenAt", node.LastSeenAt);
        json.WriteBoolean("adopted", node.Report.Adopted);
        json.WriteString("bootId", node.Report.BootId);
        WriteDrain(json, node.Drained);
        WriteRoom("cpuMilli", "freeCpuMilli", node.Report.CpuMilli, lease => lease.CpuMilli);
        WriteRoom("memoryMiB", "freeMemoryMiB", node.Report.MemoryMiB, lease => lease.MemoryMiB);
        WriteRoom("diskMiB", "freeDiskMiB", node.Report.DiskMiB, lease => lease.DiskMiB);
        json.WriteStartArray("cards");
        foreach (var card in node.Report.Cards)
        {
            json.WriteStartObject();
            json.WriteString("uuid", card.Uuid);
            json.WriteString("type", card.Type);
            json.WriteString("name", card.Name);
            json.WriteNumber("memoryMiB", card.MemoryMiB);
            json.WriteNumber("leasedMiB", node.Leases.SelectMany(lease => lease.Cards).Where(share => share.Uuid == card.Uuid).Sum(share => share.MemoryMiB));
            json.WriteBoolean("simulated", card.Simulated);
            var drained = node.DrainedCards.GetValueOrDefault(card.Uuid) ?? node.Drained;
            json.WriteString("state", (drained is not null && card.State == CardState.Ready ? CardState.Draining : card.State).ToString());
            json.WriteString("detail", card.Detail);
            json.WriteNumber("epoch", node.CardEpochs.GetValueOrDefault(card.Uuid));
            json.WriteString("enforcement", card.Enforcement.ToString());
            WriteDrain(json, drained);
            WriteMeasurements(json, card);
            json.WriteStartArray("leases");
            foreach (var (lease, share) in node.Leases.SelectMany(lease => lease.Cards.Where(share => share.Uuid == card.Uuid).Select(share => (lease, share))))
            {
                json.WriteStartObject();
                json.WriteString("instanceId", lease.InstanceId);
                json.WriteString("account", lease.Account);
                json.WriteString("function", lease.Function);
                WriteShare(json, share);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("leases");
        foreach (var lease in node.Leases)
        {
            json.WriteStartObject();
            json.WriteString("instanceId", lease.InstanceId);
            json.WriteString("account", lease.Account);
            json.WriteString("function", lease.Function);
            json.WriteNumber("milliCards", lease.MilliCards);
            json.WriteNumber("cpuMilli", lease.CpuMilli);
            json.WriteNumber("memoryMiB", lease.MemoryMiB);
            json.WriteNumber("diskMiB", lease.DiskMiB);
            json.WriteNumber("nodeEpoch", lease.NodeEpoch);
            TaskJson.WriteTime(json, "grantedAt", lease.GrantedAt);
            json.WriteStartArray("cards");
            foreach (var share in lease.Cards)
            {
                json.WriteStartObject();
                json.WriteString("uuid", share.Uuid);
                WriteShare(json, share);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("instances");
        foreach (var instance in node.Report.Instances)
        {
            json.WriteStringValue(instance);
        }

        json.WriteEndArray();
        json.WriteStartArray("facts");
        foreach (var fact in node.Report.Facts)
        {
            json.WriteStringValue(fact);
        }

        json.WriteEndArray();
        json.WriteEndObject();

        // What leases do not hold; a node that shrank may have given out more than it has.
        void WriteRoom(string total, string free, int has, Func<Lease, int> held)
        {
            json.WriteNumber(total, has);
            json.WriteNumber(free, has - node.Leases.Sum(lease => (long)held(lease)));
        }
    }

    private static void WriteShare(Utf8JsonWriter json, CardShare share)
    {
        json.WriteNumber("memoryMiB", share.MemoryMiB);
        json.WriteNumber("milliCards", share.MilliCards);
        json.WriteNumber("epoch", share.Epoch);
        json.WriteString("enforcement", share.Enforcement?.ToString());
    }

    private static void WriteDrain(Utf8JsonWriter json, Drain? drain)
    {
        if (drain is null)
        {
            json.WriteNull("drain");
            return;
        }

        json.WriteStartObject("drain");
        TaskJson.WriteTime(json, "since", drain.Since);
        TaskJson.WriteTime(json, "deadline", drain.Deadline);
        json.WriteEndObject();
    }

    // What a card does not tell is null, so that nobody takes it for a measured 0.
    private static void WriteMeasurements(Utf8JsonWriter json, CardReport card)
    {
        Write("physicalMemoryMiB", card.PhysicalMemoryMiB);
        Write("usedMemoryMiB", card.UsedMemoryMiB);
        Write("temperatureCelsius", card.TemperatureCelsius);
        Write("utilizationPercent", card.UtilizationPercent);
        Write("powerWatts", card.PowerWatts);
        Write("numaNode", card.NumaNode);
        Write("linkGroup", card.LinkGroup);
        Write("uncorrectedErrors", card.UncorrectedErrors);
        json.WriteString("parent", card.Parent);
        json.WriteBoolean("stale", card.Stale);
        if (card.SampledAt is { } at)
        {
            TaskJson.WriteTime(json, "sampledAt", at);
        }
        else
        {
            json.WriteNull("sampledAt");
        }

        void Write(string name, double? value)
        {
            if (value is { } number)
            {
                json.WriteNumber(name, number);
            }
            else
            {
                json.WriteNull(name);
            }
        }
    }

    private static IRegionQuotaGrain Region(ApiCall call) => call.Grains.GetGrain<IRegionQuotaGrain>(call.Options.Region);
}
