using GpuTasks.Nodes;
using GpuTasks.Quota;
using Orleans.Storage;

namespace GpuTasks.Tests.Storage;

public sealed class RegionStoreOnSqliteTests(SqliteStore store) : RegionStoreTests(store), IClassFixture<SqliteStore>;

public sealed class RegionStoreOnPostgreSqlTests(PostgreSqlStore store) : RegionStoreTests(store), IClassFixture<PostgreSqlStore>;

/// <summary>The region's rows on the true stores.</summary>
public abstract class RegionStoreTests
{
    private readonly TestStore store;
    private readonly string region = "r" + Guid.NewGuid().ToString("n")[..8];

    protected RegionStoreTests(TestStore store)
    {
        Assert.SkipWhen(store.Missing is not null, store.Missing ?? "");
        this.store = store;
    }

    [Fact]
    public async Task A_node_s_leases_and_epochs_come_back_as_they_were_written()
    {
        var first = new RegionStore(store.Storage, region);
        Assert.Empty(await first.TakeOverAsync(CancellationToken.None));
        var table = await LeasedAsync(first, "n1");
        await first.WriteIndexAsync(first.Index with { Accounts = new Dictionary<string, AccountRule> { ["a"] = new(5_000, 2) } });

        var second = new RegionStore(store.Storage, region);
        var back = Assert.Single(await second.TakeOverAsync(CancellationToken.None));
        Assert.Equal(first.Index.Term + 1, back.Term);
        Assert.Equal((table.Node, table.BootId, table.Epoch), (back.Node, back.BootId, back.Epoch));
        Assert.Equal(table.Cards, back.Cards);
        var (before, after) = (table.Leases[0], back.Leases[0]);
        Assert.Equal(before.Cards, after.Cards);
        Assert.Equal(before with { Cards = [] }, after with { Cards = before.Cards } with { Cards = [] });
        Assert.Equal(new AccountRule(5_000, 2), second.Index.Accounts["a"]);
    }

    [Fact]
    public async Task Who_takes_over_makes_every_write_of_the_earlier_owner_fail()
    {
        var first = new RegionStore(store.Storage, region);
        await first.TakeOverAsync(CancellationToken.None);
        var one = await LeasedAsync(first, "n1");
        var two = await LeasedAsync(first, "n2");
        var second = new RegionStore(store.Storage, region);
        await second.TakeOverAsync(CancellationToken.None);
        await Assert.ThrowsAsync<InconsistentStateException>(() => first.WriteAsync(one.End("i-n1")));
        await Assert.ThrowsAsync<InconsistentStateException>(() => first.WriteAsync(two.End("i-n2")));
        await Assert.ThrowsAsync<InconsistentStateException>(() => first.AddNodeAsync("n3"));
        await second.WriteAsync(one.End("i-n1") with { Term = second.Index.Term });
    }

    private static async Task<LeaseTable> LeasedAsync(RegionStore store, string node)
    {
        var (table, outcome, _) = (await store.AddNodeAsync(node)).Adopt(new NodeReport
        {
            Node = node,
            BootId = "b",
            CpuMilli = 8_000,
            MemoryMiB = 16_384,
            DiskMiB = 10_000,
            Cards = [new CardReport { Uuid = $"{node}-gpu", Type = "t4", MemoryMiB = 16_384, State = CardState.Ready }],
            Adopted = true,
        }).Acquire(new Lease
        {
            InstanceId = $"i-{node}",
            Account = "a",
            Function = "f",
            Node = node,
            Cards = [new CardShare($"{node}-gpu", 8_192, 500, 0)],
            CpuMilli = 1_000,
            MemoryMiB = 1_024,
            DiskMiB = 512,
            GrantedAt = new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero),
            RunLimit = TimeSpan.FromMinutes(10),
        });
        Assert.Equal(LeaseOutcome.Granted, outcome);
        await store.WriteAsync(table);
        return table;
    }
}
