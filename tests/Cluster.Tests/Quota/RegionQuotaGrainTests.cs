using System.Collections.Concurrent;
using System.Threading.Channels;
using GpuTasks.Dispatch;
using GpuTasks.Nodes;
using GpuTasks.Simulation;
using GpuTasks.Store;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using Orleans.Storage;
using Orleans.TestingHost;

namespace GpuTasks.Quota;

public sealed class RegionQuotaGrainTests : IAsyncLifetime
{
    private const string T4 = "fc.gpu.tesla.1";
    private readonly SharedStorage storage = new();
    private readonly FakeTimeProvider time = new(new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero));
    private readonly Pokes pokes = new();
    private readonly string region = "r" + Guid.NewGuid().ToString("n")[..8];
    private InProcessTestCluster cluster = null!;

    private IRegionQuotaGrain Region => cluster.Client.GetGrain<IRegionQuotaGrain>(region);

    public async ValueTask InitializeAsync()
    {
        var builder = new InProcessTestClusterBuilder(1);
        builder.ConfigureSilo((_, silo) => silo
            .AddOutgoingGrainCallFilter(pokes)
            .Services
            .AddKeyedSingleton<IGrainStorage>(StoreNames.Provider, storage)
            .AddKeyedSingleton<TimeProvider>(TimeProviderNames.Grains, time));
        cluster = builder.Build();
        await cluster.DeployAsync();
    }

    public async ValueTask DisposeAsync() => await cluster.DisposeAsync();

    [Fact]
    public async Task A_grant_is_in_the_store_before_it_is_answered()
    {
        await Region.Report(Node("n1", 1));
        var lease = Assert.Single((await Region.State(Demand("a", "f", 16_384))).Leases);
        var other = new RegionStore(storage, region);
        var row = Assert.Single(await other.TakeOverAsync(CancellationToken.None));
        Assert.Equal(lease.InstanceId, Assert.Single(row.Leases).InstanceId);
        Assert.Equal(1, Assert.Single(row.Cards).Epoch);
    }

    [Fact]
    public async Task A_silent_node_is_lost_by_the_operators_word_and_has_no_leases_when_it_returns()
    {
        await Region.Report(Node("n1", 1));
        var lease = Assert.Single((await Region.State(Demand("a", "f", 16_384))).Leases);
        Assert.Equal(new InstanceContact(true, TimeSpan.Zero), await Region.GetContact("n1", lease.InstanceId));
        Assert.Equal(DeclareLostOutcome.Reachable, await Region.DeclareLost("n1"));
        time.Advance(TimeSpan.FromMinutes(10));
        Assert.Equal(new InstanceContact(true, TimeSpan.FromMinutes(10)), await Region.GetContact("n1", lease.InstanceId));
        Assert.Equal(DeclareLostOutcome.Unknown, await Region.DeclareLost("n2"));
        Assert.Equal(DeclareLostOutcome.Done, await Region.DeclareLost("n1"));
        Assert.False((await Region.GetContact("n1", lease.InstanceId)).Leased);
        var directive = await Region.Report(Node("n1", 1) with { Instances = [lease.InstanceId] });
        Assert.Empty(directive.Leases);
        Assert.True(directive.NodeEpoch > lease.NodeEpoch);
    }

    [Fact]
    public async Task A_copy_that_was_overtaken_stops_confirming_reports()
    {
        await Region.Report(Node("n1", 1));
        await new RegionStore(storage, region).TakeOverAsync(CancellationToken.None);

        // Nothing is written, so only asking the store shows that somebody else decides now.
        await Region.Report(Node("n1", 1));
        time.Advance(TimeSpan.FromSeconds(16));
        await Assert.ThrowsAsync<InconsistentStateException>(() => Region.Report(Node("n1", 1)));
    }

    [Fact]
    public async Task Release_gives_the_card_to_the_next_and_pokes_both_functions()
    {
        await Region.Report(Node("n1", 1));
        var first = Assert.Single((await Region.State(Demand("a", "f", 16_384))).Leases);
        var waiting = await Region.State(Demand("b", "g", 16_384));
        Assert.Equal(WaitReason.NoFreeCard, waiting.Reason);
        await Region.Release("n1", first.InstanceId);
        await pokes.Told("a/f", "b/g");
        var second = Assert.Single((await Region.State(Demand("b", "g", 16_384, more: 0))).Leases);
        Assert.True(second.NodeEpoch > first.NodeEpoch);
        Assert.True(second.Cards[0].Epoch > first.Cards[0].Epoch);
        Assert.Equal(0, (await Region.GetQuota("a")).HeldMilliCards);
    }

    [Fact]
    public async Task A_restart_of_the_activation_keeps_leases_and_epochs()
    {
        await Region.Report(Node("n1", 2));
        var before = (await Region.State(Demand("a", "f", 16_384, more: 2))).Leases;
        await cluster.DeactivateAsync(Region.GetGrainId());
        var directive = await Region.Report(Node("n1", 2));
        Assert.Equal(before.Select(l => l.InstanceId), directive.Leases.Select(l => l.InstanceId));
        Assert.Equal(2, directive.NodeEpoch);
        Assert.Equal(2_000, (await Region.GetQuota("a")).HeldMilliCards);
        Assert.Equal(2, (await Region.State(Demand("a", "f", 16_384, more: 0))).Leases.Count);
    }

    [Fact]
    public async Task A_quota_that_was_set_counts_at_once_and_outlives_the_activation()
    {
        await Region.Report(Node("n1", 3));
        Assert.Equal(1_000, (await Region.SetQuota("a", 1_000, 2)).LimitMilliCards);
        Assert.Equal(WaitReason.Quota, (await Region.State(Demand("a", "f", 16_384, more: 2))).Reason);
        await cluster.DeactivateAsync(Region.GetGrainId());
        var quota = await Region.GetQuota("a");
        Assert.Equal((1_000, 1_000, 2), (quota.LimitMilliCards, quota.HeldMilliCards, quota.Weight));
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => Region.SetQuota("a", -1, 1));
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => Region.SetQuota("a", 1, 0));
    }

    [Fact]
    public async Task A_change_writes_only_the_row_of_its_node_and_an_unchanged_report_writes_nothing()
    {
        await Region.Report(Node("n1", 1));
        await Region.Report(Node("n2", 1));
        var written = new ConcurrentQueue<string>();
        storage.BeforeWrite = (_, id) => written.Enqueue(id.Key.ToString()!);
        await Region.Report(Node("n1", 1));
        Assert.Empty(written);
        await Region.State(Demand("a", "f", 16_384));
        Assert.Single(written);
    }

    [Fact]
    public async Task A_failed_write_leaves_no_trace_and_the_next_call_reads_again()
    {
        await Region.Report(Node("n1", 1));
        storage.BeforeWrite = (_, _) => throw new TimeoutException("The database is away.");
        await Assert.ThrowsAnyAsync<Exception>(() => Region.State(Demand("a", "f", 16_384)));
        storage.BeforeWrite = null;
        await Eventually(async () => (await Region.Report(Node("n1", 1))).NodeEpoch == 0);
        Assert.Single((await Region.State(Demand("a", "f", 16_384))).Leases);
        Assert.Equal(1_000, (await Region.GetQuota("a")).HeldMilliCards);
    }

    [Fact]
    public async Task Who_lost_the_region_to_another_copy_loses_its_next_write_and_reads_again()
    {
        await Region.Report(Node("n1", 1));
        await Region.Report(Node("n2", 1));

        // Another copy takes over and leases a card; this one has not heard of it.
        var other = new RegionStore(storage, region);
        var rows = await other.TakeOverAsync(CancellationToken.None);
        var (next, outcome, theirs) = rows[0].Acquire(new Lease
        {
            InstanceId = "i-theirs",
            Account = "b",
            Function = "g",
            Node = rows[0].Node,
            Cards = [new CardShare(rows[0].Cards[0].Report.Uuid, 16_384, 1_000, 0)],
            GrantedAt = time.GetUtcNow(),
        });
        Assert.Equal(LeaseOutcome.Granted, outcome);
        await other.WriteAsync(next);

        await Assert.ThrowsAnyAsync<Exception>(() => Region.State(Demand("a", "f", 16_384, more: 2)));
        await Eventually(async () => (await Region.GetNodes()).Any(n => n.Leases.Any(l => l.InstanceId == "i-theirs")));
        await Region.Report(Node("n1", 1));
        await Region.Report(Node("n2", 1));
        var leases = (await Region.State(Demand("a", "f", 16_384, more: 2))).Leases;
        Assert.DoesNotContain(leases, l => l.Cards[0].Uuid == theirs!.Cards[0].Uuid);
        Assert.Single(leases);
        await Assert.ThrowsAsync<InconsistentStateException>(() => other.WriteAsync(next with { Epoch = 99 }));
    }

    [Fact]
    public async Task A_new_boot_ends_its_leases_and_pokes_their_functions()
    {
        await Region.Report(Node("n1", 1));
        var lease = Assert.Single((await Region.State(Demand("a", "f", 16_384))).Leases);
        var directive = await Region.Report(Node("n1", 1) with { BootId = "boot-2" });
        Assert.Empty(directive.Leases);
        Assert.True(directive.NodeEpoch > lease.NodeEpoch);
        await pokes.Told("a/f");
    }

    [Fact]
    public async Task Fifteen_silent_seconds_make_a_node_unreachable()
    {
        await Region.Report(Node("n1", 1));
        time.Advance(TimeSpan.FromSeconds(16));
        Assert.False(Assert.Single(await Region.GetNodes()).Reachable);
        Assert.Equal(WaitReason.NoNode, (await Region.State(Demand("a", "f", 16_384))).Reason);
        await Region.Report(Node("n1", 1));
        await pokes.Told("a/f");
        Assert.Single((await Region.State(Demand("a", "f", 16_384, more: 0))).Leases);
    }

    private static NodeReport Node(string node, int cards) => new()
    {
        Node = node,
        BootId = "boot-1",
        CpuMilli = 64_000,
        MemoryMiB = 262_144,
        DiskMiB = 100_000,
        Cards = [.. Enumerable.Range(0, cards).Select(i => new CardReport { Uuid = $"{node}-gpu{i}", Type = T4, MemoryMiB = 16_384 })],
        Adopted = true,
    };

    private CapacityDemand Demand(string account, string function, int gpuMiB, int more = 1) => new()
    {
        Account = account,
        Function = function,
        Shape = new InstanceShape(T4, gpuMiB, 1_000, 1_024, 512),
        MoreInstances = more,
        OldestWaitingSince = time.GetUtcNow(),
        RunLimit = TimeSpan.FromMinutes(10),
    };

    /// <summary>Repeats what may fail while the activation is being replaced.</summary>
    private static async Task Eventually(Func<Task<bool>> holds)
    {
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(20));
        while (true)
        {
            try
            {
                if (await holds())
                {
                    return;
                }
            }
            catch (Exception) when (!deadline.IsCancellationRequested)
            {
                // The lost activation refuses until the next one has read the rows.
            }

            await Task.Delay(20, deadline.Token);
        }
    }

    /// <summary>Catches what the region tells dispatchers; nothing is delivered.</summary>
    private sealed class Pokes : IOutgoingGrainCallFilter
    {
        private readonly Channel<string> told = Channel.CreateUnbounded<string>();

        public Task Invoke(IOutgoingGrainCallContext context)
        {
            if (context.InterfaceMethod.Name != nameof(IDispatcherGrain.LeasesChanged))
            {
                return context.Invoke();
            }

            told.Writer.TryWrite(context.TargetId.Key.ToString()!);
            return Task.CompletedTask;
        }

        /// <summary>Waits until each of them was told since this was last asked.</summary>
        public async Task Told(params string[] functions)
        {
            var missing = functions.ToHashSet();
            using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(20));
            while (missing.Count > 0)
            {
                missing.Remove(await told.Reader.ReadAsync(deadline.Token));
            }
        }
    }
}
