using GpuTasks.Nodes;
using Orleans.Storage;

namespace GpuTasks.Quota;

/// <summary>
/// One copy of a region: steps the <see cref="RegionTable"/>, writes what changed, and only then answers. A copy whose
/// write failed is lost: what it holds in memory is no longer known to be true, so it never answers again.
/// </summary>
public sealed class RegionCopy
{
    private readonly string region;
    private readonly RegionStore store;
    private readonly RegionTable table;
    private readonly TimeProvider time;
    private readonly long startedAt;

    /// <summary>When each node was last heard, by the monotonic clock: a clock that is set must not make a node lost.</summary>
    private readonly Dictionary<string, long> heardAt = [];

    private long confirmedAt;

    private RegionCopy(string region, RegionStore store, RegionTable table, TimeProvider time)
    {
        this.region = region;
        this.store = store;
        this.table = table;
        this.time = time;
        startedAt = confirmedAt = time.GetTimestamp();
    }

    /// <summary>
    /// For how long a copy may answer nodes without having made sure that it is still the region's: 15 s. A node that is
    /// answered counts as heard of, and its runs live on; so a copy that was overtaken must not go on answering.
    /// </summary>
    private static TimeSpan Confidence => TimeSpan.FromSeconds(15);

    /// <summary>True once a write has failed.</summary>
    public bool Lost { get; private set; }

    /// <summary>How often the region was taken over until this copy.</summary>
    public long Term => store.Index.Term;

    /// <summary>Hears what every written step changed, before the answer is given.</summary>
    public Action<RegionChanges> Committed { get; init; } = static _ => { };

    /// <summary>Reads the region and makes it ours.</summary>
    /// <param name="storage">Where the rows are.</param>
    /// <param name="region">Name of the region.</param>
    /// <param name="time">Clock.</param>
    /// <param name="makeTable">Makes an empty table as of now.</param>
    /// <param name="committed">Hears what every written step changed.</param>
    /// <param name="cancellationToken">Ends the reads.</param>
    public static async Task<RegionCopy> TakeOverAsync(
        IGrainStorage storage,
        string region,
        TimeProvider time,
        Func<DateTimeOffset, RegionTable> makeTable,
        Action<RegionChanges> committed,
        CancellationToken cancellationToken)
    {
        var store = new RegionStore(storage, region);
        var table = makeTable(time.GetUtcNow());
        foreach (var row in await store.TakeOverAsync(cancellationToken))
        {
            table.Load(row);
        }

        foreach (var (account, rule) in store.Index.Accounts)
        {
            table.SetQuota(account, rule.LimitMilliCards, rule.Weight, time.GetUtcNow());
        }

        return new RegionCopy(region, store, table, time) { Committed = committed };
    }

    /// <inheritdoc cref="IRegionQuotaGrain.State" />
    public async Task<DemandAnswer> StateAsync(CapacityDemand demand)
    {
        EnsureOurs();
        var answer = table.State(demand, time.GetUtcNow());
        await CommitAsync();
        return answer;
    }

    /// <inheritdoc cref="IRegionQuotaGrain.Report" />
    public async Task<NodeDirective> ReportAsync(NodeReport report)
    {
        EnsureOurs();
        if (time.GetElapsedTime(confirmedAt) > Confidence)
        {
            var askedAt = time.GetTimestamp();
            await GuardAsync(store.ConfirmAsync);
            confirmedAt = askedAt;
        }

        if (!table.Knows(report.Node))
        {
            var row = new LeaseTable { Node = report.Node };
            await GuardAsync(async () => row = await store.AddNodeAsync(report.Node));
            table.Load(row);
        }

        var directive = table.Report(report, time.GetUtcNow());
        await CommitAsync();
        heardAt[report.Node] = time.GetTimestamp();
        return directive;
    }

    /// <inheritdoc cref="IRegionQuotaGrain.Release" />
    public async Task ReleaseAsync(string node, string instanceId)
    {
        EnsureOurs();
        table.Release(node, instanceId, time.GetUtcNow());
        await CommitAsync();
    }

    /// <inheritdoc cref="IRegionQuotaGrain.SetQuota" />
    public async Task<QuotaStatus> SetQuotaAsync(string account, int limitMilliCards, int weight)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(limitMilliCards);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(limitMilliCards, 1_000_000_000);
        ArgumentOutOfRangeException.ThrowIfLessThan(weight, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(weight, 1_000);
        EnsureOurs();
        var accounts = new Dictionary<string, AccountRule>(store.Index.Accounts) { [account] = new AccountRule(limitMilliCards, weight) };
        await GuardAsync(() => store.WriteIndexAsync(store.Index with { Accounts = accounts }));
        table.SetQuota(account, limitMilliCards, weight, time.GetUtcNow());
        await CommitAsync();
        return table.QuotaOf(account);
    }

    /// <inheritdoc cref="IRegionQuotaGrain.DrainNode" />
    public async Task<bool> DrainNodeAsync(string node, Drain? drain)
    {
        EnsureOurs();
        if (!table.Knows(node))
        {
            return false;
        }

        table.Drain(node, drain, time.GetUtcNow());
        await CommitAsync();
        return true;
    }

    /// <inheritdoc cref="IRegionQuotaGrain.DrainCard" />
    public async Task<bool> DrainCardAsync(string uuid, Drain? drain)
    {
        EnsureOurs();
        if (table.NodeWith(uuid) is not { } node)
        {
            return false;
        }

        table.DrainCard(node, uuid, drain, time.GetUtcNow());
        await CommitAsync();
        return true;
    }

    /// <inheritdoc cref="IRegionQuotaGrain.GetCardTypes" />
    public IReadOnlyList<string> CardTypes()
    {
        EnsureOurs();
        return table.CardTypes();
    }

    /// <inheritdoc cref="IRegionQuotaGrain.GetQuota" />
    public QuotaStatus QuotaOf(string account)
    {
        EnsureOurs();
        return table.QuotaOf(account);
    }

    /// <inheritdoc cref="IRegionQuotaGrain.GetContact" />
    public InstanceContact ContactOf(string node, string instanceId)
    {
        EnsureOurs();
        return new InstanceContact(
            table.Knows(node) && (table.IsBehind(node) || table.TableOf(node).Find(instanceId) is not null),
            time.GetElapsedTime(heardAt.GetValueOrDefault(node, startedAt)));
    }

    /// <inheritdoc cref="IRegionQuotaGrain.DeclareLost" />
    public async Task<DeclareLostOutcome> DeclareLostAsync(string node)
    {
        EnsureOurs();
        if (!table.Knows(node))
        {
            return DeclareLostOutcome.Unknown;
        }

        var now = time.GetUtcNow();
        if (table.Statuses(now).First(status => status.Report.Node == node).Reachable)
        {
            return DeclareLostOutcome.Reachable;
        }

        foreach (var lease in table.TableOf(node).Leases)
        {
            table.Release(node, lease.InstanceId, now);
        }

        await CommitAsync();
        return DeclareLostOutcome.Done;
    }

    /// <inheritdoc cref="IRegionQuotaGrain.GetNodes" />
    public IReadOnlyList<NodeStatus> Statuses()
    {
        EnsureOurs();
        return table.Statuses(time.GetUtcNow());
    }

    private async Task CommitAsync()
    {
        var changes = table.TakeChanges();
        if (changes.Nodes.Count > 0)
        {
            await GuardAsync(() => Task.WhenAll(changes.Nodes.Select(node => store.WriteAsync(table.TableOf(node)))));
        }

        Committed(changes);
    }

    private async Task GuardAsync(Func<Task> write)
    {
        try
        {
            await write();
        }
        catch
        {
            // It may have landed nevertheless: read again, never guess.
            Lost = true;
            throw;
        }
    }

    private void EnsureOurs()
    {
        if (Lost)
        {
            throw new InvalidOperationException($"Region '{region}' is being read again after a failed write; repeat the call.");
        }
    }
}
