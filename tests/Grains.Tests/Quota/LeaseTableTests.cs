using GpuTasks.Nodes;

namespace GpuTasks.Quota;

public sealed class LeaseTableTests
{
    private static readonly LeaseTable Two = new LeaseTable { Node = "n" }.Adopt(Build.Report("n", 2));

    [Theory]
    [InlineData(1, 16_384, 1)]
    [InlineData(16, 16_384, 1)]
    [InlineData(17, 16_384, 2)]
    [InlineData(1_024, 16_384, 63)]
    [InlineData(8_192, 16_384, 500)]
    [InlineData(16_384, 16_384, 1_000)]
    public void A_slice_counts_its_share_rounded_up(int mib, int card, int milli) =>
        Assert.Equal(milli, LeaseTable.MilliCards(mib, card));

    [Fact]
    public void A_repeated_request_gets_the_same_lease()
    {
        var (once, _, first) = Two.Acquire(Build.Wanted("i-1", "a", ("n-gpu0", 8_192)));
        var (twice, outcome, second) = once.Acquire(Build.Wanted("i-1", "a", ("n-gpu1", 16_384)));
        Assert.Equal(LeaseOutcome.Granted, outcome);
        Assert.Same(first, second);
        Assert.Same(once, twice);
    }

    [Fact]
    public void Every_grant_and_every_end_raises_the_epochs_it_touches_and_no_other()
    {
        var (granted, _, lease) = Two.Acquire(Build.Wanted("i-1", "a", ("n-gpu0", 8_192)));
        Assert.Equal(1, lease!.NodeEpoch);
        Assert.Equal(1, Assert.Single(lease.Cards).Epoch);
        var ended = granted.End("i-1");
        Assert.Equal(2, ended.Epoch);
        Assert.Equal([2L, 0L], ended.Cards.Select(c => c.Epoch));
        Assert.Same(ended, ended.End("i-1"));
    }

    [Fact]
    public void A_node_with_a_higher_number_than_the_row_keeps_what_it_has_for_the_row_is_of_an_earlier_time()
    {
        var (backup, _, old) = Two.Acquire(Build.Wanted("i-1", "a", ("n-gpu0", 8_192)));
        var (later, _, young) = backup.Acquire(Build.Wanted("i-2", "a", ("n-gpu1", 16_384)));
        later = later.End("none").Acquire(Build.Wanted("i-3", "a", ("n-gpu0", 4_096))).Next;
        var report = Build.Report("n", 2) with { Instances = ["i-1", "i-2"], NodeEpoch = later.Epoch };

        // Until it has said what it has, nothing changes; a number that the row knows changes nothing either.
        Assert.Same(backup, backup.Adopt(report));
        Assert.Same(backup, backup.Adopt(report with { Instances = ["i-1"] })); // Though the row knows this one.
        Assert.Same(later, later.Adopt(report));
        var taken = backup.Adopt(report with { Held = [old!, young!] });
        Assert.Equal([(old!.InstanceId, false), (young!.InstanceId, true)], taken.Leases.Select(lease => (lease.InstanceId, lease.TakenOver)));
        Assert.Equal(later.Epoch + 1, taken.Epoch);
        Assert.All(taken.Cards, card => Assert.True(card.Epoch > later.Cards.First(c => c.Report.Uuid == card.Report.Uuid).Epoch - 1));
        Assert.Equal(LeaseOutcome.CardBusy, taken.Acquire(Build.Wanted("i-4", "a", ("n-gpu1", 1))).Outcome);
        Assert.Same(taken, taken.Adopt(report with { NodeEpoch = taken.Epoch }));
    }

    [Fact]
    public void A_card_is_never_given_out_beyond_its_memory()
    {
        var (one, _, _) = Two.Acquire(Build.Wanted("i-1", "a", ("n-gpu0", 10_000)));
        Assert.Equal(LeaseOutcome.CardBusy, one.Acquire(Build.Wanted("i-2", "a", ("n-gpu0", 6_385))).Outcome);
        Assert.Equal(LeaseOutcome.Granted, one.Acquire(Build.Wanted("i-2", "a", ("n-gpu0", 6_384))).Outcome);
    }

    [Fact]
    public void A_card_is_shared_within_one_account_only()
    {
        var (one, _, _) = Two.Acquire(Build.Wanted("i-1", "a", ("n-gpu0", 1_024)));
        Assert.Equal(LeaseOutcome.CardBusy, one.Acquire(Build.Wanted("i-2", "b", ("n-gpu0", 1_024))).Outcome);
        Assert.Equal(LeaseOutcome.Granted, one.End("i-1").Acquire(Build.Wanted("i-2", "b", ("n-gpu0", 1_024))).Outcome);
    }

    [Theory]
    [InlineData(CardState.Draining)]
    [InlineData(CardState.Dirty)]
    [InlineData(CardState.Suspect)]
    [InlineData(CardState.Failed)]
    [InlineData(CardState.Foreign)]
    public void A_card_that_is_not_ready_takes_nothing_new_and_keeps_what_it_has(CardState state)
    {
        var (one, _, _) = Two.Acquire(Build.Wanted("i-1", "a", ("n-gpu0", 1_024)));
        var next = one.Adopt(Build.Report("n", 2) with { Cards = [Build.Card("n-gpu0", state: state)] });
        Assert.NotNull(next.Find("i-1"));
        Assert.Equal(LeaseOutcome.CardBusy, next.Acquire(Build.Wanted("i-2", "a", ("n-gpu0", 1_024))).Outcome);
        Assert.Equal(LeaseOutcome.CardBusy, next.Acquire(Build.Wanted("i-3", "a", ("n-gpu1", 1_024))).Outcome);
    }

    [Fact]
    public void A_card_that_comes_back_goes_on_from_its_epoch()
    {
        var (one, _, _) = Two.Acquire(Build.Wanted("i-1", "a", ("n-gpu0", 1_024)));
        var back = one.End("i-1").Adopt(Build.Report("n", 0)).Adopt(Build.Report("n", 2));
        Assert.Equal(3, Assert.Single(back.Acquire(Build.Wanted("i-2", "a", ("n-gpu0", 1_024))).Lease!.Cards).Epoch);
    }

    [Fact]
    public void Processors_memory_and_disk_of_the_node_count()
    {
        Assert.Equal(LeaseOutcome.NodeFull, Two.Acquire(Build.Wanted("i-1", "a") with { CpuMilli = 64_001 }).Outcome);
        Assert.Equal(LeaseOutcome.NodeFull, Two.Acquire(Build.Wanted("i-1", "a") with { MemoryMiB = 262_145 }).Outcome);
        Assert.Equal(LeaseOutcome.NodeFull, Two.Acquire(Build.Wanted("i-1", "a") with { DiskMiB = 1_000_001 }).Outcome);
        Assert.Equal(LeaseOutcome.Granted, Two.Acquire(Build.Wanted("i-1", "a") with { CpuMilli = 64_000 }).Outcome);
    }

    [Fact]
    public void A_new_boot_ends_what_the_node_no_longer_has_and_only_once_it_has_adopted()
    {
        var (one, _, _) = Two.Acquire(Build.Wanted("i-1", "a", ("n-gpu0", 1_024)));
        var (two, _, _) = one.Acquire(Build.Wanted("i-2", "a", ("n-gpu1", 1_024)));
        var early = two.Adopt(Build.Report("n", 2, "boot-2") with { Adopted = false });
        Assert.Equal(2, early.Leases.Count);
        var adopted = early.Adopt(Build.Report("n", 2, "boot-2", "i-2"));
        Assert.Equal("i-2", Assert.Single(adopted.Leases).InstanceId);
        Assert.Equal([2L, 1L], adopted.Cards.Select(c => c.Epoch));
        Assert.Equal(3, adopted.Epoch);
    }

    [Fact]
    public void The_same_report_changes_nothing() => Assert.Same(Two, Two.Adopt(Build.Report("n", 2)));
}
