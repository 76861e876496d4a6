using GpuTasks.Nodes;
using Orleans.Concurrency;

namespace GpuTasks.Quota;

/// <summary>Which cards an instance may use, who is next, and where. Key: region.</summary>
[Alias("GpuTasks.IRegionQuotaGrain")]
public interface IRegionQuotaGrain : IGrainWithStringKey
{
    /// <summary>A function states what it wants and hears what it has. Repeats replace each other.</summary>
    [Alias("State")]
    Task<DemandAnswer> State(CapacityDemand demand, CancellationToken cancellationToken = default);

    /// <summary>A node states what it truly has and hears what it should have.</summary>
    [Alias("Report")]
    Task<NodeDirective> Report(NodeReport report, CancellationToken cancellationToken = default);

    /// <summary>The node proved that the instance is gone and its cards are clean. Idempotent.</summary>
    /// <param name="node">Node that held the lease.</param>
    /// <param name="instanceId">Lease to end.</param>
    /// <param name="cancellationToken">Guards the wait.</param>
    [Alias("Release")]
    Task Release(string node, string instanceId, CancellationToken cancellationToken = default);

    /// <summary>The account's quota and use.</summary>
    [Alias("GetQuota"), ReadOnly]
    Task<QuotaStatus> GetQuota(string account, CancellationToken cancellationToken = default);

    /// <summary>Sets what an account may hold and its weight, effective at once. Lowering it ends no lease.</summary>
    /// <param name="account">Account.</param>
    /// <param name="limitMilliCards">0 to 1,000,000,000 milli-cards.</param>
    /// <param name="weight">1 to 1,000.</param>
    /// <param name="cancellationToken">Guards the wait.</param>
    /// <exception cref="ArgumentOutOfRangeException">A number is out of its range.</exception>
    [Alias("SetQuota")]
    Task<QuotaStatus> SetQuota(string account, int limitMilliCards, int weight, CancellationToken cancellationToken = default);

    /// <summary>
    /// Lets a node run empty: it gets nothing new, idle instances leave at once, others after their present runs.
    /// Repeats replace each other.
    /// </summary>
    /// <param name="node">Node.</param>
    /// <param name="within">Runs that last longer are ended and tried elsewhere at no cost: 0 s to 30 days; null waits for them.</param>
    /// <param name="cancellationToken">Guards the wait.</param>
    /// <returns>False if the region does not know the node.</returns>
    [Alias("DrainNode")]
    Task<bool> DrainNode(string node, TimeSpan? within, CancellationToken cancellationToken = default);

    /// <summary>Lets a node take leases again. Instances that were asked to leave still do.</summary>
    /// <returns>False if the region does not know the node.</returns>
    [Alias("UndrainNode")]
    Task<bool> UndrainNode(string node, CancellationToken cancellationToken = default);

    /// <summary>Lets one card run empty, as <see cref="DrainNode"/> does with a node.</summary>
    /// <param name="uuid">Card.</param>
    /// <param name="within">As with a node.</param>
    /// <param name="cancellationToken">Guards the wait.</param>
    /// <returns>False if the region does not know the card.</returns>
    [Alias("DrainCard")]
    Task<bool> DrainCard(string uuid, TimeSpan? within, CancellationToken cancellationToken = default);

    /// <summary>Lets a card take leases again.</summary>
    /// <returns>False if the region does not know the card.</returns>
    [Alias("UndrainCard")]
    Task<bool> UndrainCard(string uuid, CancellationToken cancellationToken = default);

    /// <summary>Types of all cards of the region, also of nodes that are silent now.</summary>
    [Alias("GetCardTypes"), ReadOnly]
    Task<IReadOnlyList<string>> GetCardTypes(CancellationToken cancellationToken = default);

    /// <summary>What the region knows of an instance whose node does not answer.</summary>
    /// <param name="node">Node.</param>
    /// <param name="instanceId">Instance.</param>
    /// <param name="cancellationToken">Guards the wait.</param>
    [Alias("GetContact"), ReadOnly]
    Task<InstanceContact> GetContact(string node, string instanceId, CancellationToken cancellationToken = default);

    /// <summary>
    /// An operator's word that a node is gone and nothing runs on it any more: its leases end, its tasks run elsewhere. Should
    /// it come back, it ends what it still has.
    /// </summary>
    /// <param name="node">Node.</param>
    /// <param name="cancellationToken">Guards the wait.</param>
    [Alias("DeclareLost")]
    Task<DeclareLostOutcome> DeclareLost(string node, CancellationToken cancellationToken = default);

    /// <summary>Every node the region knows, with cards and leases.</summary>
    [Alias("GetNodes"), ReadOnly]
    Task<IReadOnlyList<NodeStatus>> GetNodes(CancellationToken cancellationToken = default);
}
