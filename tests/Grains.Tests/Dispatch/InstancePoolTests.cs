using GpuTasks.Dispatch;
using GpuTasks.Nodes;
using GpuTasks.Quota;

namespace GpuTasks.Tests.Dispatch;

public sealed class InstancePoolTests
{
    private static readonly DateTimeOffset T0 = DateTimeOffset.FromUnixTimeSeconds(1_700_000_000);

    private static Lease L(string id) => new() { InstanceId = id, Account = "1001", Function = "f", Node = "n" };

    private static InstanceStatus S(string id, long version, InstanceState state = InstanceState.Ready, int revision = 1, params string[] runs) => new()
    {
        InstanceId = id,
        Node = "n",
        State = state,
        Revision = revision,
        Runs = runs,
        Version = version,
    };

    private static InstancePool Pool(params string[] ready)
    {
        var pool = new InstancePool();
        pool.Reconcile([.. ready.Select(L)], T0);
        foreach (var id in ready)
        {
            pool.Observe(S(id, 1), T0);
        }

        return pool;
    }

    private static Assignment? Assign(InstancePool pool, string owner, int concurrency = 1, int revision = 1) =>
        pool.TryAssign(owner, true, revision, concurrency, TimeSpan.FromSeconds(1), "slot-" + owner, T0);

    [Fact]
    public void A_slot_is_given_once()
    {
        var pool = Pool("i1");
        Assert.NotNull(Assign(pool, "a"));
        Assert.Null(Assign(pool, "b"));
        pool.Release("i1", "a", T0);
        Assert.NotNull(Assign(pool, "b"));
    }

    [Fact]
    public void An_instance_whose_node_is_silent_gets_nothing_new_and_is_not_waited_for()
    {
        var pool = Pool("i1");
        pool.Reconcile([L("i1"), L("coming")], T0);
        Assert.Equal(2, pool.ComingSlots(1, 1, T0));
        var later = T0 + InstancePool.Silence;
        Assert.Equal(0, pool.ComingSlots(1, 1, later));
        Assert.Null(pool.TryAssign("a", true, 1, 1, TimeSpan.FromSeconds(1), "s", later));

        // The same word again is a sign of life; an instance that only comes up to date is one too.
        pool.Observe(S("i1", 1), later);
        pool.Observe(S("coming", 1, InstanceState.Starting), later);
        Assert.Equal(2, pool.ComingSlots(1, 1, later));
        Assert.Equal("i1", pool.TryAssign("a", true, 1, 1, TimeSpan.FromSeconds(1), "s", later)!.Slot.InstanceId);
    }

    [Fact]
    public void A_node_says_where_an_owners_run_is_until_it_has_ended()
    {
        var pool = Pool("i1", "i2");
        pool.Observe(S("i2", 2, runs: ["a.3"]), T0);
        Assert.Equal(("i2", "a.3"), pool.RunOf("a") is { } run ? (run.Instance.Lease.InstanceId, run.RunId) : default);
        Assert.Null(pool.RunOf("b"));
        pool.Release("i2", "a", T0);
        Assert.Null(pool.RunOf("a"));
    }

    [Fact]
    public void The_fullest_instance_is_used_first()
    {
        var pool = Pool("i1", "i2");
        var first = Assign(pool, "a", concurrency: 2)!.Slot.InstanceId;
        Assert.Equal(first, Assign(pool, "b", concurrency: 2)!.Slot.InstanceId);
        Assert.NotEqual(first, Assign(pool, "c", concurrency: 2)!.Slot.InstanceId);
    }

    [Fact]
    public void Runs_that_only_the_node_knows_take_their_slots()
    {
        var pool = new InstancePool();
        pool.Reconcile([L("i1")], T0);
        pool.Observe(S("i1", 1, runs: ["a.1"]), T0);
        Assert.Null(Assign(pool, "b"));
        pool.Observe(S("i1", 2), T0);
        Assert.NotNull(Assign(pool, "b"));
    }

    [Fact]
    public void An_older_word_of_the_node_is_ignored()
    {
        var pool = Pool("i1");
        Assert.NotNull(pool.Observe(S("i1", 5), T0));
        Assert.Null(pool.Observe(S("i1", 4, InstanceState.Gone), T0));
        Assert.NotNull(Assign(pool, "a"));
    }

    [Fact]
    public void Instances_of_another_revision_get_nothing_and_leave()
    {
        var pool = Pool("i1");
        Assert.Null(Assign(pool, "a", revision: 2));
        Assert.Equal("i1", Assert.Single(pool.ToStop(2, TimeSpan.FromHours(1), T0)).Lease.InstanceId);
    }

    [Fact]
    public void Idle_ones_leave_when_their_time_is_over_and_busy_ones_do_not()
    {
        var pool = Pool("i1", "i2");
        var busy = Assign(pool, "a")!.Slot.InstanceId;
        Assert.Empty(pool.ToStop(1, TimeSpan.FromSeconds(60), T0.AddSeconds(59)));
        Assert.NotEqual(busy, Assert.Single(pool.ToStop(1, TimeSpan.FromSeconds(60), T0.AddSeconds(60))).Lease.InstanceId);
    }

    [Fact]
    public void Losing_a_lease_gives_its_owners_back()
    {
        var pool = Pool("i1");
        Assign(pool, "a");
        Assert.Equal("a", Assert.Single(pool.Reconcile([], T0)).Owner);
        Assert.False(pool.Holds("a"));
    }

    [Fact]
    public void A_slot_whose_run_the_node_never_shows_becomes_doubtful()
    {
        var pool = Pool("i1");
        Assign(pool, "a");
        Assert.Empty(pool.Doubtful(T0.AddSeconds(9), TimeSpan.FromSeconds(10)));
        Assert.Single(pool.Doubtful(T0.AddSeconds(10), TimeSpan.FromSeconds(10)));
        pool.Observe(S("i1", 2, runs: ["a.1"]), T0);
        Assert.Empty(pool.Doubtful(T0.AddSeconds(10), TimeSpan.FromSeconds(10)));
    }

    [Fact]
    public void A_late_release_of_an_older_slot_frees_nothing()
    {
        var pool = Pool("i1");
        var first = Assign(pool, "a")!;
        pool.Release(first, T0);
        var second = pool.TryAssign("a", true, 1, 1, TimeSpan.FromSeconds(1), "slot-2", T0);
        pool.Release(first, T0);
        Assert.NotNull(second);
        Assert.Null(Assign(pool, "b"));
    }
}
