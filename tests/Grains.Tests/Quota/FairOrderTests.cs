namespace GpuTasks.Quota;

public sealed class FairOrderTests
{
    private const int Card = 16_384;
    private static readonly DateTimeOffset T0 = Build.Start;
    private int clock;

    [Fact]
    public void What_comes_free_goes_to_the_account_that_holds_least()
    {
        var region = Build.Region(Build.Report("n1", 4));
        var a = region.State(Build.Demand("a", "f", Card, more: 4), T0).Leases;
        region.State(Build.Demand("a", "f", Card, more: 5), T0);
        region.State(Build.Demand("b", "g", Card, more: 5) with { OldestWaitingSince = T0.AddSeconds(5) }, T0.AddSeconds(5));
        Assert.Equal("b", ReleaseAndSee(region, a[0]));
        Assert.Equal("b", ReleaseAndSee(region, a[1]));
        Assert.Equal("a", ReleaseAndSee(region, a[2]));
    }

    [Fact]
    public void Twice_the_weight_gets_twice_the_cards()
    {
        var region = Build.Region(Build.Report("n1", 9));
        var filler = region.State(Build.Demand("z", "fill", Card, more: 9), T0).Leases;
        region.SetQuota("b", 30_000, 2, T0);
        region.State(Build.Demand("a", "f", Card, more: 9), T0);
        region.State(Build.Demand("b", "g", Card, more: 9), T0);
        var got = filler.Select(lease => ReleaseAndSee(region, lease)).ToList();
        Assert.Equal((3, 6), (got.Count(x => x == "a"), got.Count(x => x == "b")));
    }

    [Fact]
    public void Within_an_account_the_higher_class_goes_first_and_functions_of_a_class_take_turns()
    {
        var region = Build.Region(Build.Report("n1", 5));
        var filler = region.State(Build.Demand("z", "fill", Card, more: 5), T0).Leases;
        region.State(Build.Demand("a", "low", Card, more: 5), T0);
        region.State(Build.Demand("a", "high", Card, more: 1) with { Priority = 3 }, T0.AddSeconds(1));
        region.State(Build.Demand("a", "other", Card, more: 5) with { OldestWaitingSince = T0.AddSeconds(2) }, T0.AddSeconds(2));
        Assert.Equal(["high", "low", "other", "low", "other"], filler.Select(lease => ReleaseAndSeeFunction(region, lease)));
    }

    [Fact]
    public void Waiting_raises_the_class_so_that_no_class_starves()
    {
        var region = Build.Region(Build.Report("n1", 1));
        var holder = region.State(Build.Demand("z", "fill", Card), T0).Leases;
        region.State(Build.Demand("a", "old", Card) with { OldestWaitingSince = T0.AddMinutes(-41) }, T0);
        region.State(Build.Demand("a", "urgent", Card) with { Priority = 3 }, T0);
        Assert.Equal("old", ReleaseAndSeeFunction(region, holder[0]));
    }

    [Fact]
    public void The_rank_tells_how_many_are_ahead()
    {
        var region = Build.Region(Build.Report("n1", 2));
        region.State(Build.Demand("a", "f", Card, more: 2), T0);
        Assert.Equal(1, region.State(Build.Demand("a", "g", Card), T0).Rank);
        Assert.Equal(1, region.State(Build.Demand("b", "g", Card), T0).Rank);
        Assert.Equal(2, region.State(Build.Demand("a", "g", Card), T0).Rank);
        Assert.Equal(3, region.State(Build.Demand("a", "h", Card) with { OldestWaitingSince = T0.AddSeconds(1) }, T0).Rank);
        Assert.Equal(0, region.State(Build.Demand("a", "f", Card, more: 0), T0).Rank);
    }

    [Fact]
    public void A_higher_quota_counts_at_once_and_a_lower_one_ends_nothing()
    {
        var region = Build.Region(Build.Report("n1", 4));
        region.SetQuota("a", 1_000, 1, T0);
        Assert.Single(region.State(Build.Demand("a", "f", Card, more: 3), T0).Leases);
        region.TakeChanges();
        region.SetQuota("a", 2_000, 1, T0);
        Assert.Single(region.TakeChanges().Granted);
        region.SetQuota("a", 0, 1, T0);
        Assert.Equal(2_000, region.QuotaOf("a").HeldMilliCards);
        Assert.Empty(region.TakeChanges().Ended);
    }

    [Fact]
    public void Small_tasks_pass_a_blocked_gang_until_its_patience_ends_and_then_only_if_they_are_gone_in_time()
    {
        var region = Build.Region(Build.Report("n1", 2));
        var limit = TimeSpan.FromMinutes(10);
        var first = region.State(Build.Demand("a", "card", Card) with { RunLimit = limit }, T0).Leases[0];
        for (var second = 0; second <= 90; second += 10)
        {
            var now = T0.AddSeconds(second);
            Live(region, now, [.. region.TableOf("n1").Leases.Select(l => l.InstanceId)]);
            region.State(Build.Demand("b", "gang", 2 * Card), now);
            if (second == 30)
            {
                var passing = Assert.Single(region.State(Build.Demand("c", "passing", Card) with { OldestWaitingSince = now }, now).Leases);
                region.Release("n1", passing.InstanceId, now);
            }
        }

        var later = T0.AddSeconds(92);
        var refused = region.State(Build.Demand("c", "long", Card) with { RunLimit = limit }, later);
        Assert.Equal(WaitReason.KeptForOther, refused.Reason);
        Assert.Single(region.State(Build.Demand("c", "short", Card) with { RunLimit = TimeSpan.FromMinutes(5) }, later).Leases);
        region.Release("n1", first.InstanceId, later);
        Assert.Empty(region.State(Build.Demand("a", "card", Card) with { RunLimit = limit }, later).Leases);
    }

    [Fact]
    public void A_gang_in_a_stream_of_single_cards_starts_within_the_longest_run()
    {
        var result = Simulation.QueueRun.Run(Simulation.QueueRun.Adversarial, Simulation.Discipline.Ours, load: 1.05, nodes: 20, arrivals: 6_000, seed: 3);
        var greedy = Simulation.QueueRun.Run(Simulation.QueueRun.Adversarial, Simulation.Discipline.Greedy, load: 1.05, nodes: 20, arrivals: 6_000, seed: 3);
        Assert.NotEmpty(result.Waits["gang"]);
        Assert.InRange(result.Wait("gang", 100), 0, 601);
        Assert.InRange(result.Utilisation, 0.9 * greedy.Utilisation, 1.001);
    }

    [Fact]
    public void Instances_on_cards_kept_for_a_gang_are_asked_to_leave_after_their_runs()
    {
        var region = Build.Region(Build.Report("n1", 4));
        var holders = region.State(Build.Demand("a", "f", Card, more: 4), T0).Leases.Select(l => l.InstanceId).ToArray();
        region.State(Build.Demand("b", "gang", 2 * Card), T0);
        Assert.Empty(region.State(Build.Demand("a", "f", Card, more: 1), T0.AddSeconds(10)).Yield);
        var later = T0.AddSeconds(80);
        Live(region, later, holders);
        region.State(Build.Demand("b", "gang", 2 * Card), later);
        region.TakeChanges();
        Live(region, later.AddSeconds(6), holders);
        Assert.Equal(2, region.TakeChanges().Yielding.Count);
        Assert.Equal(2, region.State(Build.Demand("a", "f", Card, more: 1), later.AddSeconds(6)).Yield.Count);
    }

    [Fact]
    public void Who_holds_more_than_its_part_is_asked_to_give_to_who_waits_but_not_below_its_part()
    {
        var region = Build.Region(Build.Report("n1", 4));
        var holders = region.State(Build.Demand("a", "f", Card, more: 4), T0).Leases;
        Assert.Empty(region.State(Build.Demand("b", "g", Card, more: 4), T0).Leases);
        var asked = new HashSet<string>();
        for (var second = 60; second < 200; second += 3)
        {
            var now = T0.AddSeconds(second);
            Live(region, now, [.. region.TableOf("n1").Leases.Select(l => l.InstanceId)]);
            region.State(Build.Demand("b", "g", Card, more: 4 - (region.QuotaOf("b").HeldMilliCards / 1_000)), now);
            foreach (var instance in region.State(Build.Demand("a", "f", Card, more: 4), now).Yield)
            {
                asked.Add(instance);
                region.Release("n1", instance, now);
            }
        }

        Assert.Equal(2, asked.Count);
        Assert.Subset(holders.Select(l => l.InstanceId).ToHashSet(), asked);
        Assert.Equal((2_000, 2_000), (region.QuotaOf("a").HeldMilliCards, region.QuotaOf("b").HeldMilliCards));
    }

    private string ReleaseAndSee(RegionTable region, Lease lease) => Next(region, lease).Account;

    private string ReleaseAndSeeFunction(RegionTable region, Lease lease) => Next(region, lease).Function;

    private Lease Next(RegionTable region, Lease lease)
    {
        region.TakeChanges();
        region.Release(lease.Node, lease.InstanceId, T0.AddSeconds(6 + (++clock * 0.1)));
        return Assert.Single(region.TakeChanges().Granted);
    }

    private static void Live(RegionTable region, DateTimeOffset now, params string[] instances) =>
        region.Report(region.Statuses(now)[0].Report with { Instances = instances }, now);
}
