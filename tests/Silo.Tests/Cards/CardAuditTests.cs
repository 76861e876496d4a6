using GpuTasks.Cards;
using GpuTasks.Nodes;

namespace GpuTasks.Tests.Cards;

public sealed class CardAuditTests
{
    private static CardSample Used(int usedMiB) => new() { Uuid = "GPU-1", UsedBytes = (ulong)usedMiB << 20, UsedIsExact = true };

    private static OwnedProcess Of(ProcessOwner owner, int? usedMiB = 10, string instance = "") =>
        new(new CardProcess(7, usedMiB is { } used ? (ulong)used << 20 : null), owner, instance);

    [Theory]
    [InlineData(0, 0, CardState.Ready)]
    [InlineData(64, 0, CardState.Ready)]
    [InlineData(65, 0, CardState.Dirty)]
    [InlineData(4_000, 4_096, CardState.Ready)]
    [InlineData(4_161, 4_096, CardState.Dirty)]
    public void Memory_is_back_to_what_can_be_explained(int usedMiB, int othersMiB, CardState state) =>
        Assert.Equal(state, CardAudit.Judge(Used(usedMiB), [], othersMiB, 0).State);

    [Fact]
    public void A_driver_that_is_silent_proves_nothing() => Assert.Equal(CardState.Dirty, CardAudit.Judge(null, [], 0, 0).State);

    [Fact]
    public void The_earlier_holders_processes_keep_it_dirty_and_are_named()
    {
        var finding = CardAudit.Judge(Used(0), [Of(ProcessOwner.Ending), Of(ProcessOwner.Foreign)], 0, 0);
        Assert.Equal(CardState.Dirty, finding.State);
        Assert.Equal([7u], finding.Orphans);
    }

    [Fact]
    public void Strangers_are_named_and_never_killed()
    {
        var finding = CardAudit.Judge(Used(500), [Of(ProcessOwner.Foreign)], 0, 0);
        Assert.Equal(CardState.Foreign, finding.State);
        Assert.Empty(finding.Orphans);
    }

    [Fact]
    public void Others_that_live_on_it_are_welcome() =>
        Assert.Equal(CardState.Ready, CardAudit.Judge(Used(500), [Of(ProcessOwner.Instance, instance: "i-2")], 1_024, 0).State);

    [Fact]
    public void A_process_that_nobody_sees_counts_against_an_empty_card_only()
    {
        Assert.Equal(CardState.Dirty, CardAudit.Judge(Used(0), [Of(ProcessOwner.Unseen)], 0, 0).State);
        Assert.Equal(CardState.Ready, CardAudit.Judge(Used(0), [Of(ProcessOwner.Unseen)], 1_024, 0).State);
    }

    [Fact]
    public void Use_is_added_up_by_instance_and_unknown_use_accuses_nobody()
    {
        var use = CardAudit.UseOf([
            Of(ProcessOwner.Instance, 100, "a"), Of(ProcessOwner.Instance, 50, "a"),
            Of(ProcessOwner.Instance, 100, "b"), Of(ProcessOwner.Instance, null, "b"),
            Of(ProcessOwner.Foreign, 9_000)]);
        Assert.Equal(new Dictionary<string, int> { ["a"] = 150 }, use);
        Assert.False(CardAudit.IsOver(1_075, 1_024));
        Assert.True(CardAudit.IsOver(1_076, 1_024));
    }

    [Fact]
    public void Pauses_double_to_a_minute() =>
        Assert.Equal([2d, 4d, 8d, 16d, 32d, 60d, 60d], Enumerable.Range(1, 7).Select(look => CardAudit.PauseAfter(look).TotalSeconds));
}
