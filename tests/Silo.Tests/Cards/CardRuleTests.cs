using GpuTasks.Cards;
using GpuTasks.Cards.Nvml;
using GpuTasks.Nodes;

namespace GpuTasks.Tests.Cards;

public sealed class CardTypesTests
{
    [Theory]
    [InlineData("Tesla T4", 15_360, "fc.gpu.tesla.1")]
    [InlineData("NVIDIA A10", 23_028, "fc.gpu.ampere.1")]
    [InlineData("NVIDIA L20", 46_068, "fc.gpu.ada.1")]
    [InlineData("NVIDIA L40S", 46_068, "fc.gpu.ada.3")]
    [InlineData("NVIDIA RTX 6000 Ada Generation", 49_140, "fc.gpu.ada.3")]
    [InlineData("NVIDIA RTX 4000 Ada Generation", 20_475, "fc.gpu.ada.2")]
    [InlineData("NVIDIA GeForce RTX 4090", 24_564, "fc.gpu.ada.2")]
    [InlineData("NVIDIA GeForce RTX 4090", 49_140, "fc.gpu.ada.3")]
    [InlineData("NVIDIA H20", 97_871, "fc.gpu.hopper.1")]
    [InlineData("NVIDIA H800", 81_559, "fc.gpu.hopper.1")]
    [InlineData("NVIDIA H20-3e", 143_771, "fc.gpu.hopper.1")]
    [InlineData("NVIDIA A10G", 23_028, "gpu.a10g")]
    [InlineData("NVIDIA A100-SXM4-40GB", 40_960, "gpu.a100-sxm4-40gb")]
    [InlineData("NVIDIA H20 MIG 1g.12gb", 12_000, "gpu.h20-mig-1g.12gb")]
    [InlineData("Tesla P100-PCIE-16GB", 16_384, "gpu.tesla-p100-pcie-16gb")]
    [InlineData("", 1, "gpu.unknown")]
    public void Products_have_types(string name, int memoryMiB, string type)
    {
        Assert.Equal(type, new CardTypes([]).Of(name, memoryMiB));
        Assert.True(CardTypes.IsType(type));
    }

    [Fact]
    public void The_operators_table_wins_and_its_longest_part_that_fits()
    {
        var types = new CardTypes(new Dictionary<string, string> { ["a10g"] = "fc.gpu.ampere.1", ["T4"] = "x", ["tesla t4"] = "y", ["MIG 3g.20gb"] = "z" });
        Assert.Equal("fc.gpu.ampere.1", types.Of("NVIDIA A10G", 1));
        Assert.Equal("y", types.Of("Tesla T4", 1));
        Assert.Equal("z", types.Of("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 1));
    }

    [Theory]
    [InlineData("fc.gpu.tesla.1", 15_060, 16_384)]
    [InlineData("fc.gpu.hopper.1", 81_000, 81_000)]
    [InlineData("fc.gpu.ada.1", 49_152, 49_152)]
    [InlineData("gpu.a10g", 22_000, 22_000)]
    public void A_card_counts_as_its_types_size_when_it_comes_near(string type, int physical, int leased) =>
        Assert.Equal(leased, CardTypes.LeasedAsMiB(type, physical));
}

public sealed class XidPolicyTests
{
    [Theory]
    [InlineData(13, CardState.Ready, HolderEffect.OwnFault)]
    [InlineData(31, CardState.Ready, HolderEffect.OwnFault)]
    [InlineData(43, CardState.Ready, HolderEffect.OwnFault)]
    [InlineData(45, CardState.Ready, HolderEffect.OwnFault)]
    [InlineData(68, CardState.Ready, HolderEffect.OwnFault)]
    [InlineData(109, CardState.Ready, HolderEffect.OwnFault)]
    [InlineData(46, CardState.Failed, HolderEffect.EndAll)]
    [InlineData(48, CardState.Failed, HolderEffect.EndAll)]
    [InlineData(62, CardState.Failed, HolderEffect.EndAll)]
    [InlineData(64, CardState.Failed, HolderEffect.EndAll)]
    [InlineData(69, CardState.Failed, HolderEffect.EndAll)]
    [InlineData(79, CardState.Failed, HolderEffect.EndAll)]
    [InlineData(95, CardState.Failed, HolderEffect.EndAll)]
    [InlineData(119, CardState.Failed, HolderEffect.EndAll)]
    [InlineData(120, CardState.Failed, HolderEffect.EndAll)]
    [InlineData(140, CardState.Failed, HolderEffect.EndAll)]
    [InlineData(63, CardState.Ready, HolderEffect.None)]
    [InlineData(92, CardState.Ready, HolderEffect.None)]
    [InlineData(94, CardState.Draining, HolderEffect.EndSoleHolder)]
    [InlineData(74, CardState.Draining, HolderEffect.EndGangs)]
    [InlineData(154, CardState.Suspect, HolderEffect.None)]
    [InlineData(999, CardState.Draining, HolderEffect.None)]
    public void A_fault_number_leads_to(int xid, CardState card, object holders)
    {
        var rule = XidPolicy.Of((ulong)xid);
        Assert.Equal((card, (HolderEffect)holders), (rule.Card, rule.Holders));
        Assert.Equal(xid == 79, rule.DrainsNode);
    }

    [Theory]
    [InlineData(0u, CardState.Ready)]
    [InlineData(1u, CardState.Failed)]
    [InlineData(2u, CardState.Failed)]
    [InlineData(3u, CardState.Draining)]
    [InlineData(4u, CardState.Draining)]
    [InlineData(5u, CardState.Draining)]
    [InlineData(6u, CardState.Failed)]
    [InlineData(7u, CardState.Failed)]
    [InlineData(99u, CardState.Draining)]
    public void A_recovery_action_leads_to(uint action, CardState state) => Assert.Equal(state, XidPolicy.OfRecoveryAction(action).State);
}

public sealed class CardHealthTests
{
    private static readonly DateTimeOffset Start = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    private static CardSample Sample(double seconds, uint? action = null) => new() { Uuid = "GPU-1", At = Start.AddSeconds(seconds), RecoveryAction = action };

    [Fact]
    public void A_fault_stays_until_the_driver_says_otherwise()
    {
        var (card, _) = new CardHealth().Apply(48, Start);
        Assert.Equal(CardState.Failed, card.State);
        Assert.Equal(CardState.Failed, card.Apply(Sample(5)).Next.State); // An older driver has no opinion.
        Assert.Equal(CardState.Failed, card.Apply(Sample(-1, action: 0)).Next.State); // Read before the fault.
        Assert.Equal(CardState.Ready, card.Apply(Sample(5, action: 0)).Next.State);
        Assert.Equal(CardState.Draining, card.Apply(Sample(5, action: 4)).Next.State);
    }

    [Fact]
    public void A_lesser_fault_does_not_soften_a_greater_one()
    {
        var (card, _) = new CardHealth().Apply(48, Start);
        (card, _) = card.Apply(94, Start);
        Assert.Equal(CardState.Failed, card.State);
        Assert.Contains("Xid 48", card.LatchedDetail, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(15)]
    [InlineData(16)]
    public void A_card_that_does_not_answer_has_failed_and_tells_its_holders_once(int code)
    {
        var (card, effect) = new CardHealth().Apply(Sample(1) with { Health = (NvmlReturn)code });
        Assert.Equal((CardState.Failed, HolderEffect.EndAll), (card.State, effect));
        Assert.Equal(HolderEffect.None, card.Apply(Sample(2) with { Health = (NvmlReturn)code }).Effect);
    }

    [Fact]
    public void A_card_that_cannot_be_opened_is_suspect() =>
        Assert.Equal(CardState.Suspect, new CardHealth().Apply(Sample(1) with { Health = NvmlReturn.NoPermission }).Next.State);

    [Fact]
    public void Worn_rows_are_a_note_and_a_lack_of_spare_ones_is_the_end()
    {
        var pending = new CardHealth().Apply(Sample(1) with { RemapPending = true }).Next;
        Assert.Equal(CardState.Ready, pending.State);
        Assert.NotEmpty(pending.Detail);
        Assert.Equal(CardState.Failed, new CardHealth().Apply(Sample(1, action: 0) with { RemapFailed = true }).Next.State);
    }

    [Fact]
    public void Ten_minutes_of_throttling_drain_a_card_and_a_break_begins_anew()
    {
        var card = new CardHealth().Apply(Sample(0) with { ThrottleReasons = 0x40 }).Next;
        Assert.Equal(CardState.Ready, card.State);
        Assert.Contains("clocked down", card.Detail, StringComparison.Ordinal);
        Assert.Equal(CardState.Draining, card.Apply(Sample(601) with { ThrottleReasons = 0x20 }).Next.State);
        var rested = card.Apply(Sample(300) with { ThrottleReasons = 0x1 }).Next; // Idle.
        Assert.Equal(("", CardState.Ready), (rested.Detail, rested.State));
        Assert.Equal(CardState.Ready, rested.Apply(Sample(601) with { ThrottleReasons = 0x40 }).Next.State);
    }
}
