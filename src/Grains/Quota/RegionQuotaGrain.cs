using GpuTasks.Dispatch;
using GpuTasks.Nodes;
using GpuTasks.Quota.Placement;
using GpuTasks.Store;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Orleans.Storage;

namespace GpuTasks.Quota;

/// <summary>
/// The region's one decision maker. Nothing is granted twice because one turn ends before the next begins, and because
/// a second activation makes the first lose its next write. It calls others with one-way pokes only, so it never waits
/// for anybody but the store.
/// </summary>
/// <param name="storage">Where the region's rows are.</param>
/// <param name="time">Clock.</param>
/// <param name="logger">Log.</param>
/// <param name="start">When the silo began; left out, it counts as long ago.</param>
[GrainType("region-quota")]
public sealed partial class RegionQuotaGrain(
    [FromKeyedServices(StoreNames.Provider)] IGrainStorage storage,
    [FromKeyedServices(TimeProviderNames.Grains)] TimeProvider time,
    ILogger<RegionQuotaGrain> logger,
    SiloStart? start = null) : Grain, IRegionQuotaGrain
{
    /// <summary>
    /// A region that comes to an older silo was served while that silo was there, so its store was not exchanged. Longer than a
    /// silo may have waited for its store.
    /// </summary>
    private static readonly TimeSpan YoungSilo = TimeSpan.FromMinutes(3);

    private RegionCopy copy = null!;

    /// <summary>The function being answered: it reads its leases in the answer and needs no poke.</summary>
    private string? answering;

    /// <inheritdoc />
    public override async Task OnActivateAsync(CancellationToken cancellationToken)
    {
        var region = this.GetPrimaryKeyString();
        copy = await RegionCopy.TakeOverAsync(
            storage,
            region,
            time,
            now => new RegionTable(new RegionRules { ColdStart = start?.Age < YoungSilo }, new FragmentationDescent(new ShapeMix()), InstanceIds.New, now),
            Tell,
            cancellationToken);
        var term = copy.Term;
        LogTakenOver(region, term);
    }

    /// <inheritdoc />
    public async Task<DemandAnswer> State(CapacityDemand demand, CancellationToken cancellationToken = default)
    {
        answering = $"{demand.Account}/{demand.Function}";
        try
        {
            return await OrLeave(copy.StateAsync(demand));
        }
        finally
        {
            answering = null;
        }
    }

    /// <inheritdoc />
    public Task<NodeDirective> Report(NodeReport report, CancellationToken cancellationToken = default) => OrLeave(copy.ReportAsync(report));

    /// <inheritdoc />
    public Task Release(string node, string instanceId, CancellationToken cancellationToken = default) => OrLeave(copy.ReleaseAsync(node, instanceId));

    /// <inheritdoc />
    public Task<QuotaStatus> SetQuota(string account, int limitMilliCards, int weight, CancellationToken cancellationToken = default) =>
        OrLeave(copy.SetQuotaAsync(account, limitMilliCards, weight));

    /// <inheritdoc />
    public Task<QuotaStatus> GetQuota(string account, CancellationToken cancellationToken = default) => Task.FromResult(copy.QuotaOf(account));

    /// <inheritdoc />
    public Task<InstanceContact> GetContact(string node, string instanceId, CancellationToken cancellationToken = default) =>
        Task.FromResult(copy.ContactOf(node, instanceId));

    /// <inheritdoc />
    public Task<DeclareLostOutcome> DeclareLost(string node, CancellationToken cancellationToken = default) => OrLeave(copy.DeclareLostAsync(node));

    /// <inheritdoc />
    public Task<IReadOnlyList<NodeStatus>> GetNodes(CancellationToken cancellationToken = default) => Task.FromResult(copy.Statuses());

    /// <inheritdoc />
    public Task<bool> DrainNode(string node, TimeSpan? within, CancellationToken cancellationToken = default) =>
        OrLeave(copy.DrainNodeAsync(node, DrainNow(within)));

    /// <inheritdoc />
    public Task<bool> UndrainNode(string node, CancellationToken cancellationToken = default) => OrLeave(copy.DrainNodeAsync(node, null));

    /// <inheritdoc />
    public Task<bool> DrainCard(string uuid, TimeSpan? within, CancellationToken cancellationToken = default) =>
        OrLeave(copy.DrainCardAsync(uuid, DrainNow(within)));

    /// <inheritdoc />
    public Task<bool> UndrainCard(string uuid, CancellationToken cancellationToken = default) => OrLeave(copy.DrainCardAsync(uuid, null));

    /// <inheritdoc />
    public Task<IReadOnlyList<string>> GetCardTypes(CancellationToken cancellationToken = default) => Task.FromResult(copy.CardTypes());

    private Drain DrainNow(TimeSpan? within)
    {
        if (within < TimeSpan.Zero || within > TimeSpan.FromDays(30))
        {
            throw new ArgumentOutOfRangeException(nameof(within), within, "0 s to 30 days.");
        }

        var now = time.GetUtcNow();
        return new Drain(now, now + within);
    }

    private async Task<T> OrLeave<T>(Task<T> step)
    {
        await OrLeave((Task)step);
        return await step;
    }

    /// <summary>A copy that lost a write makes room for an activation that reads again.</summary>
    private async Task OrLeave(Task step)
    {
        try
        {
            await step;
        }
        catch (Exception failure) when (copy.Lost)
        {
            LogWriteFailed(failure);
            DeactivateOnIdle();
            throw;
        }
    }

    private void Tell(RegionChanges changes)
    {
        foreach (var lease in changes.Ended)
        {
            LogEnded(lease.InstanceId, lease.Node, lease.Account, lease.Function);
        }

        foreach (var lease in changes.Granted)
        {
            LogGranted(lease.InstanceId, lease.Node, lease.Account, lease.Function, lease.MilliCards, lease.NodeEpoch);
        }

        foreach (var lease in changes.Yielding)
        {
            LogAskedToYield(lease.InstanceId, lease.Node, lease.Account, lease.Function);
        }

        foreach (var function in changes.Granted.Concat(changes.Ended).Concat(changes.Yielding).Select(l => $"{l.Account}/{l.Function}").Distinct())
        {
            if (function != answering)
            {
                // One-way: a poke that is lost is made good by the function's next statement.
                _ = GrainFactory.GetGrain<IDispatcherGrain>(function).LeasesChanged(CancellationToken.None);
            }
        }
    }
}
