using GpuTasks.Quota.Placement;

namespace GpuTasks.Quota;

public sealed class RegionTableTests
{
    private static readonly DateTimeOffset T0 = Build.Start;

    [Fact]
    public void A_demand_that_fits_is_met_at_once()
    {
        var region = Build.Region(Build.Report("n1", 2));
        var answer = region.State(Build.Demand("a", "f", 8_192, more: 3), T0);
        Assert.Equal(3, answer.Leases.Count);
        Assert.Equal(WaitReason.None, answer.Reason);
        Assert.Equal(1_500, region.QuotaOf("a").HeldMilliCards);
        Assert.Equal(["n1"], region.TakeChanges().Nodes);
    }

    [Fact]
    public void Slices_fill_a_card_before_they_open_another()
    {
        var region = Build.Region(Build.Report("n1", 2));
        var leases = region.State(Build.Demand("a", "f", 8_192, more: 2), T0).Leases;
        Assert.Single(leases.SelectMany(l => l.Cards).Select(c => c.Uuid).Distinct());
    }

    [Fact]
    public void A_multiple_of_a_cards_memory_is_so_many_whole_cards_of_one_node()
    {
        var region = Build.Region(Build.Report("n1", 1), Build.Report("n2", 3));
        var lease = Assert.Single(region.State(Build.Demand("a", "f", 2 * 16_384), T0).Leases);
        Assert.Equal("n2", lease.Node);
        Assert.Equal(2, lease.Cards.Select(c => c.Uuid).Distinct().Count());
        Assert.All(lease.Cards, c => Assert.Equal((16_384, 1_000), (c.MemoryMiB, c.MilliCards)));
    }

    [Fact]
    public void A_function_without_cards_takes_processors_memory_and_disk_only()
    {
        var region = Build.Region(Build.Report("n1", 1));
        var lease = Assert.Single(region.State(Build.Demand("a", "f", 0), T0).Leases);
        Assert.Empty(lease.Cards);
        Assert.Equal((1_000, 1_024, 512), (lease.CpuMilli, lease.MemoryMiB, lease.DiskMiB));
        Assert.Equal(0, region.QuotaOf("a").HeldMilliCards);
    }

    [Fact]
    public void Two_accounts_never_share_a_card()
    {
        var region = Build.Region(Build.Report("n1", 1));
        Assert.Single(region.State(Build.Demand("a", "f", 1_024), T0).Leases);
        var other = region.State(Build.Demand("b", "f", 1_024), T0);
        Assert.Empty(other.Leases);
        Assert.Equal(WaitReason.NoFreeCard, other.Reason);
    }

    [Fact]
    public void An_account_stays_within_its_quota_and_hears_by_how_much_it_is_short()
    {
        var region = Build.Region(Build.Report("n1", 4));
        region.SetQuota("a", 1_400, 1, T0);
        var answer = region.State(Build.Demand("a", "f", 8_192, more: 3), T0);
        Assert.Equal(2, answer.Leases.Count);
        Assert.Equal((WaitReason.Quota, "The account holds 1000 of 1400 milli-cards; one more instance needs 500, 100 too many."), (answer.Reason, answer.Detail));
    }

    [Fact]
    public void The_default_quota_is_thirty_cards()
    {
        var region = Build.Region(Build.Report("n1", 32));
        var answer = region.State(Build.Demand("a", "f", 16_384, more: 31), T0);
        Assert.Equal(30, answer.Leases.Count);
        Assert.Equal(WaitReason.Quota, answer.Reason);
    }

    [Fact]
    public void Each_reason_to_wait_is_told_with_the_amount_short()
    {
        Assert.Equal((WaitReason.NoNode, "No node has joined the region."), Reason(Build.Region(), Build.Demand("a", "f", 1_024)));
        var region = Build.Region(Build.Report("n1", 2));
        Assert.Equal(
            (WaitReason.NoCardOfType, "No reachable node has a ready card of type fc.gpu.other."),
            Reason(region, Build.Demand("a", "f", 1_024) with { Shape = new InstanceShape("fc.gpu.other", 1_024, 100, 128, 512) }));
        Assert.Equal(WaitReason.NoCardOfType, Reason(region, Build.Demand("a", "f", 4 * 16_384)).Reason);
        Assert.Equal(WaitReason.NoCardOfType, Reason(region, Build.Demand("a", "f", 16_385)).Reason);
        Assert.Equal(
            (WaitReason.NoRoomOnNode, "The nearest node is short of 1000 milli-processors, 0 MiB memory and 0 MiB disk."),
            Reason(region, Build.Demand("a", "f", 1_024, cpuMilli: 65_000)));
        region.State(Build.Demand("a", "g", 10_000, more: 2), T0);
        Assert.Equal(
            (WaitReason.Fragmented, "8192 MiB are needed on one card of type fc.gpu.tesla.1; the most free for this account is 6384 MiB, 1808 short."),
            Reason(region, Build.Demand("a", "f", 8_192)));
        Assert.Equal(
            (WaitReason.NoFreeCard, "2 empty cards of type fc.gpu.tesla.1 are needed on one node; the node with the most has 0, all nodes together 0."),
            Reason(region, Build.Demand("a", "f", 32_768)));
    }

    [Fact]
    public void What_is_released_goes_to_the_demand_that_waited_longest()
    {
        var region = Build.Region(Build.Report("n1", 1));
        var holder = Assert.Single(region.State(Build.Demand("a", "f", 16_384), T0).Leases);
        region.State(Build.Demand("b", "late", 16_384) with { OldestWaitingSince = T0.AddSeconds(9) }, T0.AddSeconds(10));
        region.State(Build.Demand("c", "early", 16_384) with { OldestWaitingSince = T0.AddSeconds(5) }, T0.AddSeconds(10));
        region.TakeChanges();
        region.Release("n1", holder.InstanceId, T0.AddSeconds(11));
        var changes = region.TakeChanges();
        Assert.Equal("early", Assert.Single(changes.Granted).Function);
        Assert.Equal(holder.InstanceId, Assert.Single(changes.Ended).InstanceId);
    }

    [Fact]
    public void Releasing_twice_or_on_the_wrong_node_changes_nothing()
    {
        var region = Build.Region(Build.Report("n1", 1), Build.Report("n2", 1));
        var lease = Assert.Single(region.State(Build.Demand("a", "f", 16_384), T0).Leases);
        var other = lease.Node == "n1" ? "n2" : "n1";
        region.TakeChanges();
        region.Release(other, lease.InstanceId, T0);
        region.Release("nowhere", lease.InstanceId, T0);
        Assert.Empty(region.TakeChanges().Nodes);
        region.Release(lease.Node, lease.InstanceId, T0);
        Assert.Single(region.TakeChanges().Nodes);
        region.Release(lease.Node, lease.InstanceId, T0);
        Assert.Empty(region.TakeChanges().Nodes);
    }

    [Fact]
    public void A_grant_the_function_has_not_heard_of_is_not_given_twice()
    {
        var region = Build.Region(Build.Report("n1", 1));
        var holder = Assert.Single(region.State(Build.Demand("a", "f", 16_384), T0).Leases);
        region.State(Build.Demand("b", "g", 16_384) with { HeldInstances = 0 }, T0);
        region.Release("n1", holder.InstanceId, T0);
        region.Join(Build.Report("n2", 1), T0);
        var answer = region.State(Build.Demand("b", "g", 16_384) with { HeldInstances = 0 }, T0);
        Assert.Single(answer.Leases);
    }

    [Fact]
    public void Who_has_not_heard_that_its_leases_ended_gets_no_new_ones_for_them()
    {
        var region = Build.Region(Build.Report("n1", 2));
        Assert.Equal(2, region.State(Build.Demand("a", "f", 16_384, more: 2), T0).Leases.Count);
        foreach (var lease in region.State(Build.Demand("a", "f", 16_384, more: 0), T0).Leases)
        {
            region.Release("n1", lease.InstanceId, T0);
        }

        Assert.Empty(region.State(Build.Demand("a", "f", 16_384, more: 0) with { HeldInstances = 2 }, T0).Leases);
    }

    [Fact]
    public void A_demand_that_is_not_stated_again_lapses()
    {
        var region = Build.Region(Build.Report("n1", 1));
        var holder = Assert.Single(region.State(Build.Demand("a", "f", 16_384), T0).Leases);
        region.State(Build.Demand("b", "g", 16_384), T0);
        region.Report(Build.Report("n1", 1, "boot-1", holder.InstanceId), T0.AddSeconds(31));
        region.TakeChanges();
        region.Release("n1", holder.InstanceId, T0.AddSeconds(31));
        Assert.Empty(region.TakeChanges().Granted);
    }

    [Fact]
    public void A_silent_node_gets_nothing_new_and_its_leases_stay_counted()
    {
        var region = Build.Region(Build.Report("n1", 2));
        region.State(Build.Demand("a", "f", 16_384), T0);
        var answer = region.State(Build.Demand("a", "f", 16_384), T0.AddSeconds(16));
        Assert.Equal((WaitReason.NoNode, "None of 1 nodes is reachable."), (answer.Reason, answer.Detail));
        Assert.Equal(1_000, region.QuotaOf("a").HeldMilliCards);
        Assert.False(Assert.Single(region.Statuses(T0.AddSeconds(16))).Reachable);
        region.Report(Build.Report("n1", 2), T0.AddSeconds(17));
        Assert.Single(region.TakeChanges().Granted, l => l.GrantedAt == T0.AddSeconds(17));
    }

    [Fact]
    public void A_lease_whose_instance_never_came_is_taken_back_after_the_grace()
    {
        var region = Build.Region(Build.Report("n1", 1));
        var lease = Assert.Single(region.State(Build.Demand("a", "f", 16_384), T0).Leases);
        Assert.Single(region.Report(Build.Report("n1", 1), T0.AddSeconds(89)).Leases);
        Assert.Single(region.Report(Build.Report("n1", 1) with { Adopted = false }, T0.AddSeconds(91)).Leases);
        var directive = region.Report(Build.Report("n1", 1), T0.AddSeconds(92));
        Assert.Empty(directive.Leases);
        Assert.True(directive.NodeEpoch > lease.NodeEpoch);
    }

    [Fact]
    public void A_lease_whose_instance_was_there_ends_by_release_only()
    {
        var region = Build.Region(Build.Report("n1", 1));
        var lease = Assert.Single(region.State(Build.Demand("a", "f", 16_384), T0).Leases);
        region.Report(Build.Report("n1", 1, "boot-1", lease.InstanceId), T0.AddSeconds(5));
        Assert.Single(region.Report(Build.Report("n1", 1), T0.AddSeconds(500)).Leases);
    }

    [Fact]
    public void A_region_that_was_just_read_again_gives_instances_time_to_show()
    {
        var region = Build.Region(Build.Report("n1", 1));
        region.State(Build.Demand("a", "f", 16_384), T0);
        var again = new RegionTable(new RegionRules(), new Placement.BestFit(), _ => "i-9", T0.AddHours(1));
        again.Load(region.TableOf("n1"));
        Assert.Equal(1_000, again.QuotaOf("a").HeldMilliCards);
        Assert.Single(again.Report(Build.Report("n1", 1), T0.AddHours(1)).Leases);
        Assert.Equal(1_000, again.QuotaOf("a").HeldMilliCards);
        Assert.Empty(again.TakeChanges().Nodes);
    }

    [Fact]
    public void An_avoided_node_is_used_only_if_no_other_could_ever_serve()
    {
        var region = Build.Region(Build.Report("n1", 1), Build.Report("n2", 1));
        Assert.Equal("n2", Assert.Single(region.State(Build.Demand("a", "f", 16_384) with { AvoidNode = "n1" }, T0).Leases).Node);
        var waiting = region.State(Build.Demand("a", "f", 16_384) with { AvoidNode = "n1" }, T0);
        Assert.Single(waiting.Leases);
        Assert.Equal("Only node 'n1' has room, and an instance just failed there.", waiting.Detail);
        var alone = Build.Region(Build.Report("n1", 1));
        Assert.Single(alone.State(Build.Demand("a", "f", 16_384) with { AvoidNode = "n1" }, T0).Leases);
    }

    [Fact]
    public void A_demand_that_cannot_be_met_holds_up_no_other()
    {
        var region = Build.Region(Build.Report("n1", 2));
        region.State(Build.Demand("a", "f", 16_384), T0);
        region.State(Build.Demand("a", "gang", 2 * 16_384), T0);
        Assert.Single(region.State(Build.Demand("a", "small", 1_024), T0.AddSeconds(1)).Leases);
    }

    private static (WaitReason Reason, string Detail) Reason(RegionTable region, CapacityDemand demand)
    {
        var answer = region.State(demand, T0);
        region.State(demand with { MoreInstances = 0 }, T0);
        return (answer.Reason, answer.Detail);
    }

    [Fact]
    public void A_region_that_has_just_begun_answers_no_demand_before_every_node_has_said_what_it_has()
    {
        var region = ColdRegion();
        region.Report(Build.Report("n1", 1), T0);
        var answer = region.State(Build.Demand("a", "f", 16_384), T0);
        Assert.Equal(WaitReason.NodesUnheard, answer.Reason);
        Assert.Contains("'n2'", answer.Detail, StringComparison.Ordinal);
        Assert.DoesNotContain("'n1'", answer.Detail, StringComparison.Ordinal);
        Assert.Empty(region.TakeChanges().Granted);

        // It has, but what it has is younger than its row: first the tasks of its runs are told.
        var held = Build.Wanted("i-old", "a", ("n2-gpu0", 16_384)) with { Node = "n2", NodeEpoch = 7 };
        var report = Build.Report("n2", 1, instances: "i-old") with { NodeEpoch = 7 };
        Assert.Equal(0, region.Report(report, T0).NodeEpoch);
        Assert.True(region.IsBehind("n2"));
        Assert.Equal(WaitReason.NodesUnheard, region.State(Build.Demand("a", "f", 16_384), T0).Reason);

        Assert.Equal(8, region.Report(report with { Held = [held] }, T0).NodeEpoch);
        Assert.False(region.IsBehind("n2"));
        answer = region.State(Build.Demand("a", "f", 16_384), T0);
        Assert.Equal(["n1", "n2"], answer.Leases.Select(lease => lease.Node).Order());

        // Who falls silent later holds up nobody.
        Assert.Equal(WaitReason.NoFreeCard, region.State(Build.Demand("a", "g", 16_384), T0 + TimeSpan.FromSeconds(1)).Reason);
    }

    [Fact]
    public void A_node_that_stays_silent_holds_a_region_that_has_just_begun_up_for_15_s()
    {
        var region = ColdRegion();
        region.Report(Build.Report("n1", 1), T0 + TimeSpan.FromSeconds(14));
        Assert.Equal(WaitReason.NodesUnheard, region.State(Build.Demand("a", "f", 16_384), T0 + TimeSpan.FromSeconds(15)).Reason);
        Assert.Single(region.State(Build.Demand("a", "f", 16_384), T0 + TimeSpan.FromSeconds(15.1)).Leases);
    }

    private static RegionTable ColdRegion()
    {
        var region = new RegionTable(new RegionRules { ColdStart = true }, new BestFit(), _ => $"i-new-{Guid.NewGuid():N}", T0);
        region.Load(new LeaseTable { Node = "n1" });
        region.Load(new LeaseTable { Node = "n2" });
        return region;
    }
}
