using GpuTasks.Dispatch;
using GpuTasks.Nodes;
using GpuTasks.Quota.Placement;
using GpuTasks.Store;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Orleans.Storage;

namespace GpuTasks.Quota;

/// <summary>
/// The region's one decision maker: steps the <see cref="RegionTable"/>, writes what changed, then answers and tells.
/// Nothing is granted twice because one turn ends before the next begins, and because a second activation loses its
/// first write. It calls others with one-way pokes only, so it never waits for anybody but the store.
/// </summary>
/// <param name="storage">Where the region's rows are.</param>
/// <param name="time">Clock.</param>
/// <param name="logger">Log.</param>
[GrainType("region-quota")]
public sealed partial class RegionQuotaGrain(
    [FromKeyedServices(StoreNames.Provider)] IGrainStorage storage,
    [FromKeyedServices(TimeProviderNames.Grains)] TimeProvider time,
    ILogger<RegionQuotaGrain> logger) : Grain, IRegionQuotaGrain
{
    private static readonly RegionRules Rules = new();
    private RegionStore store = null!;
    private RegionTable table = null!;
    private string region = "";
    private bool lost;

    /// <inheritdoc />
    public override async Task OnActivateAsync(CancellationToken cancellationToken)
    {
        region = this.GetPrimaryKeyString();
        store = new RegionStore(storage, region);
        table = new RegionTable(Rules, new BestFit(), InstanceIds.New, time.GetUtcNow());
        foreach (var row in await store.TakeOverAsync(cancellationToken))
        {
            table.Load(row);
        }

        foreach (var (account, limit) in store.Index.Quotas)
        {
            table.SetQuota(account, limit);
        }

        var term = store.Index.Term;
        LogTakenOver(region, term);
    }

    /// <inheritdoc />
    public async Task<DemandAnswer> State(CapacityDemand demand, CancellationToken cancellationToken = default)
    {
        EnsureOurs();
        var answer = table.State(demand, time.GetUtcNow());
        await CommitAsync(caller: $"{demand.Account}/{demand.Function}");
        return answer;
    }

    /// <inheritdoc />
    public async Task<NodeDirective> Report(NodeReport report, CancellationToken cancellationToken = default)
    {
        EnsureOurs();
        if (!table.Knows(report.Node))
        {
            table.Load(await GuardAsync(store.AddNodeAsync(report.Node)));
            LogNodeJoined(report.Node, report.Cards.Count);
        }

        var directive = table.Report(report, time.GetUtcNow());
        await CommitAsync(caller: null);
        return directive;
    }

    /// <inheritdoc />
    public async Task Release(string node, string instanceId, CancellationToken cancellationToken = default)
    {
        EnsureOurs();
        table.Release(node, instanceId, time.GetUtcNow());
        await CommitAsync(caller: null);
    }

    /// <inheritdoc />
    public Task<QuotaStatus> GetQuota(string account, CancellationToken cancellationToken = default) =>
        Task.FromResult(table.QuotaOf(account));

    /// <inheritdoc />
    public Task<IReadOnlyList<NodeStatus>> GetNodes(CancellationToken cancellationToken = default) =>
        Task.FromResult(table.Statuses(time.GetUtcNow()));

    /// <summary>Writes what the step changed, then tells the functions it changed something for.</summary>
    private async Task CommitAsync(string? caller)
    {
        var changes = table.TakeChanges();
        if (changes.Nodes.Count > 0)
        {
            await GuardAsync(Task.WhenAll(changes.Nodes.Select(node => store.WriteAsync(table.TableOf(node)))));
        }

        foreach (var lease in changes.Ended)
        {
            LogEnded(lease.InstanceId, lease.Node, lease.Account, lease.Function);
        }

        foreach (var lease in changes.Granted)
        {
            LogGranted(lease.InstanceId, lease.Node, lease.Account, lease.Function, lease.MilliCards, lease.NodeEpoch);
        }

        foreach (var function in changes.Granted.Concat(changes.Ended).Select(l => $"{l.Account}/{l.Function}").Distinct())
        {
            if (function != caller)
            {
                // One-way: a poke that is lost is made good by the function's next statement.
                _ = GrainFactory.GetGrain<IDispatcherGrain>(function).LeasesChanged(CancellationToken.None);
            }
        }
    }

    /// <summary>A failed write may have landed: what is in memory is no longer known to be true, so nobody may hear it.</summary>
    private async Task GuardAsync(Task write)
    {
        try
        {
            await write;
        }
        catch (Exception failure)
        {
            lost = true;
            LogWriteFailed(failure, region);
            DeactivateOnIdle();
            throw;
        }
    }

    private async Task<T> GuardAsync<T>(Task<T> write)
    {
        await GuardAsync((Task)write);
        return await write;
    }

    private void EnsureOurs()
    {
        if (lost)
        {
            throw new InvalidOperationException($"Region '{region}' is being read again after a failed write; repeat the call.");
        }
    }
}
