using GpuTasks.Nodes;

namespace GpuTasks.Quota;

public sealed class DrainTests
{
    private const int Card = 16_384;
    private static readonly DateTimeOffset T0 = Build.Start;

    [Fact]
    public void A_drained_node_gets_nothing_new_and_its_instances_are_asked_to_leave_until_it_is_undrained()
    {
        var region = Build.Region(Build.Report("n1", 2));
        var held = Assert.Single(region.State(Build.Demand("a", "f", Card), T0).Leases);
        region.TakeChanges();
        region.Drain("n1", new Drain(T0, null), T0);
        Assert.Equal([held.InstanceId], region.TakeChanges().Yielding.Select(l => l.InstanceId));
        var answer = region.State(Build.Demand("a", "f", Card), T0);
        Assert.Equal((WaitReason.Drained, "The only reachable node is being drained."), (answer.Reason, answer.Detail));
        Assert.Equal([held.InstanceId], answer.Yield);
        Assert.Empty(answer.Evict);
        Assert.Equal(new Drain(T0, null), Assert.Single(region.Statuses(T0)).Drained);
        region.Drain("n1", null, T0);
        Assert.Single(region.TakeChanges().Granted);
        Assert.Empty(region.State(Build.Demand("a", "f", Card, more: 0), T0).Yield);
    }

    [Fact]
    public void After_the_deadline_what_is_still_there_must_end_and_its_function_is_told_once()
    {
        var region = Build.Region(Build.Report("n1", 2), Build.Report("n2", 1));
        var first = Assert.Single(region.State(Build.Demand("a", "f", 2 * Card), T0).Leases);
        region.Drain("n1", new Drain(T0, T0.AddSeconds(10)), T0);
        region.TakeChanges();
        region.Report(Build.Report("n1", 2, "boot-1", first.InstanceId), T0.AddSeconds(9));
        Assert.Empty(region.State(Build.Demand("a", "f", Card, more: 0), T0.AddSeconds(9)).Evict);
        Assert.Empty(region.TakeChanges().Yielding);
        region.Report(Build.Report("n1", 2, "boot-1", first.InstanceId), T0.AddSeconds(11));
        Assert.Equal([first.InstanceId], region.TakeChanges().Yielding.Select(l => l.InstanceId));
        region.Report(Build.Report("n1", 2, "boot-1", first.InstanceId), T0.AddSeconds(13));
        Assert.Empty(region.TakeChanges().Yielding);
        Assert.Equal([first.InstanceId], region.State(Build.Demand("a", "f", Card, more: 0), T0.AddSeconds(13)).Evict);
    }

    [Fact]
    public void A_drained_card_takes_nothing_new_and_the_others_of_its_node_go_on()
    {
        var region = Build.Region(Build.Report("n1", 2));
        var both = region.State(Build.Demand("a", "f", Card, more: 2), T0).Leases;
        region.DrainCard("n1", "n1-gpu0", new Drain(T0, null), T0);
        var leaving = both.Single(l => l.Cards[0].Uuid == "n1-gpu0");
        Assert.Equal([leaving.InstanceId], region.State(Build.Demand("a", "f", Card, more: 0), T0).Yield);
        region.Release("n1", leaving.InstanceId, T0);
        Assert.Single(region.State(Build.Demand("a", "f", Card), T0).Leases);
        region.Release("n1", both.Single(l => l != leaving).InstanceId, T0);
        Assert.Equal("n1-gpu1", Assert.Single(region.State(Build.Demand("a", "f", Card), T0).Leases).Cards[0].Uuid);
        Assert.Equal(WaitReason.Drained, region.State(Build.Demand("b", "gang", 2 * Card), T0).Reason);
        Assert.Null(region.NodeWith("elsewhere"));
        Assert.Equal("n1", region.NodeWith("n1-gpu0"));
    }

    [Fact]
    public void A_drain_outlives_reports_and_a_new_reading_of_the_region()
    {
        var region = Build.Region(Build.Report("n1", 1));
        region.Drain("n1", new Drain(T0, null), T0);
        region.DrainCard("n1", "n1-gpu0", new Drain(T0, T0), T0);
        region.Report(Build.Report("n1", 1, "boot-2"), T0);
        var again = new RegionTable(new RegionRules(), new Placement.BestFit(), _ => "i-9", T0);
        again.Load(region.TableOf("n1"));
        again.Report(Build.Report("n1", 1, "boot-2"), T0);
        Assert.Equal(WaitReason.Drained, again.State(Build.Demand("a", "f", Card), T0).Reason);
        again.Drain("n1", null, T0);
        Assert.Equal(WaitReason.Drained, again.State(Build.Demand("a", "f", Card), T0).Reason);
        again.DrainCard("n1", "n1-gpu0", null, T0);
        Assert.Single(again.State(Build.Demand("a", "f", Card), T0).Leases);
    }

    [Fact]
    public void Cards_that_are_not_fit_are_told_from_cards_that_are_not_there()
    {
        var report = Build.Report("n1", 2);
        var region = Build.Region(report with { Cards = [Build.Card("x", state: CardState.Dirty), Build.Card("y", state: CardState.Failed)] });
        var answer = region.State(Build.Demand("a", "f", 1_024), T0);
        Assert.Equal((WaitReason.CardsUnfit, "Too few cards of type fc.gpu.tesla.1 are fit for new work: 1 Dirty, 1 Failed."), (answer.Reason, answer.Detail));
        Assert.Equal(["fc.gpu.tesla.1"], region.CardTypes());
    }

    [Fact]
    public void What_is_free_in_sum_but_not_in_one_place_is_told_as_fragmentation()
    {
        var region = Build.Region(Build.Report("n1", 2), Build.Report("n2", 2));
        var held = region.State(Build.Demand("a", "f", Card, more: 4), T0).Leases;
        region.Release("n1", held.First(l => l.Node == "n1").InstanceId, T0);
        Assert.Equal(WaitReason.NoFreeCard, region.State(Build.Demand("b", "gang", 2 * Card), T0).Reason);
        region.Release("n2", held.First(l => l.Node == "n2").InstanceId, T0);
        var answer = region.State(Build.Demand("b", "gang", 2 * Card), T0);
        Assert.Equal((WaitReason.Fragmented, 1), (answer.Reason, answer.Missing.Cards));
    }

    [Fact]
    public void The_amount_short_is_told_as_a_number_and_the_rank_within_the_account()
    {
        var region = Build.Region(Build.Report("n1", 1));
        region.SetQuota("a", 1_400, 1, T0);
        region.State(Build.Demand("a", "f", Card), T0);
        var answer = region.State(Build.Demand("a", "g", 8_192), T0);
        Assert.Equal((100, 1), (answer.Missing.MilliCards, answer.RankInAccount));
        region.State(Build.Demand("b", "x", Card), T0);
        var other = region.State(Build.Demand("a", "h", 4_096) with { OldestWaitingSince = T0.AddSeconds(1) }, T0);
        Assert.Equal((2, 3), (other.RankInAccount, other.Rank));
        Assert.Equal(4_096, other.Missing.GpuMiB);
    }
}

public sealed class KeptPartTests
{
    private const int Card = 16_384;
    private static readonly DateTimeOffset T0 = Build.Start;

    [Fact]
    public void A_reserved_part_of_the_quota_is_taken_by_no_other_function_of_the_account()
    {
        var region = Build.Region(Build.Report("n1", 4));
        region.SetQuota("a", 3_000, 1, T0);
        region.State(Build.Demand("a", "kept", Card, more: 0) with { Reserved = 2 }, T0);
        var other = region.State(Build.Demand("a", "f", Card, more: 3), T0);
        Assert.Single(other.Leases);
        Assert.Equal((WaitReason.Quota, 1_000), (other.Reason, other.Missing.MilliCards));
        Assert.Contains("2000 are reserved for its other functions", other.Detail, StringComparison.Ordinal);
        // Its versions have the same reservation and share it.
        Assert.Single(region.State(Build.Demand("a", "kept.1", Card, more: 1) with { Reserved = 2 }, T0).Leases);
        Assert.Single(region.State(Build.Demand("a", "kept", Card, more: 1) with { Reserved = 2 }, T0).Leases);
        Assert.Single(region.State(Build.Demand("b", "f", Card), T0).Leases);
    }

    [Fact]
    public void A_reservation_given_up_frees_what_it_kept_and_one_never_takes_all()
    {
        var region = Build.Region(Build.Report("n1", 4));
        region.SetQuota("a", 3_000, 1, T0);
        region.State(Build.Demand("a", "kept", Card, more: 0) with { Reserved = 50 }, T0);
        Assert.Single(region.State(Build.Demand("a", "small", 1_024), T0).Leases);
        Assert.Empty(region.State(Build.Demand("a", "f", Card, more: 2), T0).Leases);
        region.State(Build.Demand("a", "kept", Card, more: 0), T0);
        Assert.Equal(2, region.State(Build.Demand("a", "f", Card, more: 2), T0).Leases.Count);
    }

    [Fact]
    public void What_is_to_be_provisioned_goes_ahead_of_what_waits_in_any_class()
    {
        var region = Build.Region(Build.Report("n1", 2));
        var filler = region.State(Build.Demand("z", "fill", Card, more: 2), T0).Leases;
        region.State(Build.Demand("a", "urgent", Card, more: 2) with { Priority = 9, OldestWaitingSince = T0.AddSeconds(-30) }, T0);
        region.State(Build.Demand("a", "warm", Card, more: 2) with { Provisioned = 1, OldestWaitingSince = null }, T0.AddSeconds(1));
        region.TakeChanges();
        var got = new List<string>();
        foreach (var lease in filler)
        {
            region.Release("n1", lease.InstanceId, T0.AddSeconds(2));
            got.AddRange(region.TakeChanges().Granted.Select(l => l.Function));
        }

        Assert.Equal(["warm", "urgent"], got);
    }

    [Fact]
    public void What_is_provisioned_is_not_asked_to_yield()
    {
        var region = Build.Region(Build.Report("n1", 4));
        var warm = Build.Demand("a", "f", Card, more: 4) with { Provisioned = 3 };
        region.State(warm, T0);
        var asked = new HashSet<string>();
        for (var second = 60; second < 200; second += 3)
        {
            var now = T0.AddSeconds(second);
            region.Report(Build.Report("n1", 4, "boot-1", [.. region.TableOf("n1").Leases.Select(l => l.InstanceId)]), now);
            region.State(Build.Demand("b", "g", Card, more: 4 - (region.QuotaOf("b").HeldMilliCards / 1_000)), now);
            foreach (var instance in region.State(warm with { MoreInstances = 0 }, now).Yield)
            {
                asked.Add(instance);
                region.Release("n1", instance, now);
            }
        }

        Assert.Single(asked);
        Assert.Equal((3_000, 1_000), (region.QuotaOf("a").HeldMilliCards, region.QuotaOf("b").HeldMilliCards));
    }
}
