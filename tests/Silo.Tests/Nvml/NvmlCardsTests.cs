using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using GpuTasks.Cards;
using GpuTasks.Cards.Nvml;
using GpuTasks.Nodes;
using GpuTasks.Tests.Containers;

namespace GpuTasks.Tests.Nvml;

public sealed class NvmlCardsTests
{
    private static readonly string First = StubDriver.Uuid(0);
    private static readonly string Second = StubDriver.Uuid(1);

    [Fact]
    public void Structures_have_the_sizes_of_the_drivers_header() => Assert.Equal(
        (24, 40, 8, 68, 24, 40, 32),
        (Unsafe.SizeOf<NvmlMemory>(), Unsafe.SizeOf<NvmlMemoryV2>(), Unsafe.SizeOf<NvmlUtilization>(), Unsafe.SizeOf<NvmlPciInfo>(), Unsafe.SizeOf<NvmlProcessInfo>(), Unsafe.SizeOf<NvmlFieldValue>(), Unsafe.SizeOf<NvmlEvent>()));

    [Fact]
    public void Everything_about_a_card_is_read()
    {
        using var driver = new StubDriver();
        driver.Set(
            StubDriver.Card(0),
            StubDriver.Card(1, "NVIDIA L20", 46_068, 500, 1_000, numa: 1),
            StubDriver.Card(2, "NVIDIA L20", 46_068, 500, 1_000, numa: 1),
            "link 1 2 20",
            "ecc 1 3",
            StubDriver.Process(Second, 4242, 900),
            StubDriver.Process(Second, 4243, 50, 'G'),
            StubDriver.Process(Second, 4244, 40, 'M'));
        using var cards = driver.Open();

        var card = cards.Cards[0];
        Assert.Equal((First, "fc.gpu.tesla.1", "Tesla T4", false, CardState.Ready), (card.Uuid, card.Type, card.Name, card.Simulated, card.State));
        // 15,060 MiB can be had, but the contract sells this card as 16,384.
        Assert.Equal((16_384, 15_060, 3), (card.MemoryMiB, card.PhysicalMemoryMiB, card.UsedMemoryMiB));
        Assert.Equal((54, 37, 61.25), (card.TemperatureCelsius, card.UtilizationPercent, card.PowerWatts));
        Assert.Equal((0, MemoryEnforcement.Watched, false), (card.NumaNode, card.Enforcement, card.Stale));
        Assert.NotNull(card.SampledAt);
        Assert.Equal(("fc.gpu.ada.1", 1, 3L), (cards.Cards[1].Type, cards.Cards[1].NumaNode, cards.Cards[1].UncorrectedErrors));
        Assert.NotEqual(cards.Cards[0].LinkGroup, cards.Cards[1].LinkGroup);
        Assert.Equal(cards.Cards[1].LinkGroup, cards.Cards[2].LinkGroup);
        Assert.Equal([4242u, 4243u, 4244u], cards.SampleOf(Second)!.Processes.Select(process => process.Pid).Order());
        Assert.Contains("NVIDIA driver 580.95.05, CUDA 13.0.", cards.Facts);
    }

    [Fact]
    public void A_list_of_processes_longer_than_expected_is_read_whole()
    {
        using var driver = new StubDriver();
        driver.Set([StubDriver.Card(0), .. Enumerable.Range(1, 100).Select(pid => StubDriver.Process(First, pid, 1))]);
        using var cards = driver.Open();
        Assert.Equal(100, cards.SampleOf(First)!.Processes.Count);
    }

    [Fact]
    public void A_card_divided_by_hardware_is_leased_by_its_parts()
    {
        using var driver = new StubDriver();
        driver.Set(
            StubDriver.Card(0, "NVIDIA A100-SXM4-40GB", 40_960, mig: 1),
            FormattableString.Invariant($"mig 0 MIG-1 {4_864 * StubDriver.MiB} 0 0 NVIDIA A100-SXM4-40GB MIG 1g.5gb"),
            FormattableString.Invariant($"mig 0 MIG-2 {19_968 * StubDriver.MiB} 0 0 NVIDIA A100-SXM4-40GB MIG 3g.20gb"),
            StubDriver.Process("MIG-2", 77, 5));
        using var cards = driver.Open();
        Assert.Equal(["MIG-1", "MIG-2"], cards.Cards.Select(card => card.Uuid));
        Assert.All(cards.Cards, card => Assert.Equal((First, MemoryEnforcement.Hardware), (card.Parent, card.Enforcement)));
        Assert.Equal([("gpu.a100-sxm4-40gb-mig-1g.5gb", 4_864), ("gpu.a100-sxm4-40gb-mig-3g.20gb", 19_968)], cards.Cards.Select(card => (card.Type, card.MemoryMiB)));
        Assert.Equal(77u, Assert.Single(cards.SampleOf("MIG-2")!.Processes).Pid);
        Assert.Empty(cards.SampleOf("MIG-1")!.Processes);
    }

    [Fact]
    public void A_card_divided_into_nothing_is_a_fact()
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0, "NVIDIA A100-SXM4-40GB", 40_960, mig: 1));
        using var cards = driver.Open();
        Assert.Empty(cards.Cards);
        Assert.Contains(cards.Facts, fact => fact.Contains("no MIG devices", StringComparison.Ordinal));
    }

    [Fact]
    public void An_old_driver_lacks_values_and_nothing_else()
    {
        using var driver = new StubDriver(old: true);
        driver.Set(StubDriver.Card(0), StubDriver.Process(First, 5, 100));
        using var cards = driver.Open();
        var card = Assert.Single(cards.Cards);
        Assert.Equal(CardState.Ready, card.State);
        Assert.Equal((16_384, 15_360, 303), (card.MemoryMiB, card.PhysicalMemoryMiB, card.UsedMemoryMiB)); // It cannot tell its own part apart.
        Assert.False(cards.SampleOf(First)!.UsedIsExact);
        Assert.Null(cards.SampleOf(First)!.RecoveryAction);
        Assert.Single(cards.SampleOf(First)!.Processes);
    }

    [Fact]
    public void Values_that_a_card_does_not_give_are_unknown_and_not_zero()
    {
        using var driver = new StubDriver();
        driver.Set(FormattableString.Invariant($"card {First} 00000000:01:00.0 {24_564 * StubDriver.MiB} 0 0 -1 -1 -1 -1 -1 -1 -1 NVIDIA GeForce RTX 4090"));
        using var cards = driver.Open();
        var card = Assert.Single(cards.Cards);
        Assert.Equal((null, null, null), (card.TemperatureCelsius, card.UtilizationPercent, card.PowerWatts));
        Assert.Equal(("fc.gpu.ada.2", 24_576, CardState.Ready), (card.Type, card.MemoryMiB, card.State));
    }

    [Fact]
    public void Without_the_library_a_node_has_no_cards_and_says_so()
    {
        using var driver = new StubDriver();
        using var cards = driver.Open(settings => settings with { LibraryPath = driver.Library + ".missing" });
        Assert.Empty(cards.Cards);
        Assert.Contains(cards.Facts, fact => fact.Contains("not found", StringComparison.Ordinal));
    }

    [Fact]
    public void A_file_that_is_no_library_is_said_to_be_none()
    {
        using var driver = new StubDriver();
        File.WriteAllText(driver.Library + ".txt", "no library");
        using var cards = driver.Open(settings => settings with { LibraryPath = driver.Library + ".txt" });
        Assert.Empty(cards.Cards);
        Assert.Single(cards.Facts);
    }

    [Theory]
    [InlineData(9, "not loaded")]
    [InlineData(18, "changed under its library")]
    [InlineData(4, "may not speak")]
    [InlineData(17, "control group")]
    [InlineData(999, "error 999")]
    public async Task A_driver_that_does_not_start_is_a_fact_and_is_tried_again(int code, string fact)
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0), $"fail nvmlInit_v2 * {code}");
        using var cards = driver.Open();
        Assert.Empty(cards.Cards);
        Assert.Contains(cards.Facts, text => text.Contains(fact, StringComparison.Ordinal));
        driver.Replace("fail");
        await StubDriver.UntilAsync(cards, First, card => card.State == CardState.Ready, "the card is found");
        Assert.DoesNotContain(cards.Facts, text => text.Contains(fact, StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_driver_that_goes_away_leaves_its_cards_suspect_until_it_is_back()
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0));
        using var cards = driver.Open();
        driver.Set("fail nvmlDeviceGetCount_v2 * 18", "fail nvmlInit_v2 * 18");
        var card = await StubDriver.UntilAsync(cards, First, card => card.State == CardState.Suspect, "the card is suspect");
        Assert.Contains("changed under its library", card.Detail, StringComparison.Ordinal);
        driver.Replace("fail");
        await StubDriver.UntilAsync(cards, First, card => card.State == CardState.Ready, "the card is back");
    }

    [Fact]
    public async Task A_lost_card_fails_with_its_holders_and_the_others_are_read_on()
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0), StubDriver.Card(1));
        using var cards = driver.Open();
        var faults = new ConcurrentQueue<CardFaultEventArgs>();
        cards.Faulted += (_, fault) => faults.Enqueue(fault);
        driver.Set("fail * 0 15");
        var lost = await StubDriver.UntilAsync(cards, First, card => card.State == CardState.Failed, "the card is lost");
        Assert.Contains("fallen off the bus", lost.Detail, StringComparison.Ordinal);
        Assert.Equal(CardState.Ready, cards.Cards.Single(card => card.Uuid == Second).State);
        var fault = Assert.Single(faults);
        Assert.Equal((First, HolderEffect.EndAll), (fault.Uuid, fault.Effect));
    }

    [Fact]
    public void A_card_that_was_lost_before_the_start_is_a_fact()
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0), StubDriver.Card(1), "fail * 0 15");
        using var cards = driver.Open();
        Assert.Equal([Second], cards.Cards.Select(card => card.Uuid));
        Assert.Contains(cards.Facts, fact => fact.Contains("Card 0", StringComparison.Ordinal) && fact.Contains("fallen off the bus", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_call_that_hangs_costs_its_card_and_nothing_else()
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0), StubDriver.Card(1));
        using var cards = driver.Open(settings => settings with { HangAfter = TimeSpan.FromMilliseconds(1_500) });
        driver.Set("sleep nvmlDeviceGetPowerUsage 0 60000");
        var hung = await StubDriver.UntilAsync(cards, First, card => card.State == CardState.Suspect, "the card is suspect");
        Assert.Contains("nvmlDeviceGetPowerUsage", hung.Detail, StringComparison.Ordinal);
        Assert.True(hung.Stale);
        // The other card goes on being read, and nobody who asks about the sick one waits for ever.
        var before = cards.SampleOf(Second)!.Round;
        await AgentHarness.UntilAsync(() => cards.SampleOf(Second)!.Round > before + 2, "the other card is read", 20);
        Assert.Equal((CardState.Ready, false), cards.Cards.Where(card => card.Uuid == Second).Select(card => (card.State, card.Stale)).Single());
        Assert.Null(await cards.SampleNowAsync(First, AgentHarness.Token));

        driver.Replace("sleep");
        await StubDriver.UntilAsync(cards, First, card => card is { State: CardState.Ready, Stale: false }, "the card is back");
        Assert.NotNull(await cards.SampleNowAsync(First, AgentHarness.Token));
    }

    [Fact]
    public async Task A_call_about_no_card_that_hangs_makes_all_suspect_until_it_returns()
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0), StubDriver.Card(1));
        using var cards = driver.Open(settings => settings with { HangAfter = TimeSpan.FromMilliseconds(1_500) });
        driver.Set("sleep nvmlDeviceGetCount_v2 * 60000");
        await AgentHarness.UntilAsync(() => cards.Cards.All(card => card is { State: CardState.Suspect, Stale: true }), "all are suspect", 20);
        Assert.Contains(cards.Facts, fact => fact.Contains("nvmlDeviceGetCount_v2", StringComparison.Ordinal));
        driver.Replace("sleep");
        await AgentHarness.UntilAsync(() => cards.Cards.All(card => card is { State: CardState.Ready, Stale: false }), "all are back", 20);
    }

    [Fact]
    public void A_start_that_hangs_does_not_hold_the_node()
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0), "sleep nvmlInit_v2 * 3000");
        using var cards = new NvmlCards(
            new NvmlSettings { LibraryPath = driver.Library, HangAfter = TimeSpan.FromMilliseconds(200) },
            TimeProvider.System,
            Microsoft.Extensions.Logging.Abstractions.NullLogger<NvmlCards>.Instance);
        Assert.False(cards.WaitForFirst(TimeSpan.FromMilliseconds(100)));
        Assert.Empty(cards.Cards);
        driver.Replace("sleep");
        Assert.True(cards.WaitForFirst(TimeSpan.FromSeconds(20)));
        Assert.Single(cards.Cards);
    }

    [Fact]
    public async Task Fault_numbers_reach_their_card()
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0, action: -1), StubDriver.Card(1, action: -1));
        using var cards = driver.Open();
        var faults = new ConcurrentQueue<CardFaultEventArgs>();
        cards.Faulted += (_, fault) => faults.Enqueue(fault);
        driver.Set("event 1 8 31", "event 1 8 48");
        var card = await StubDriver.UntilAsync(cards, Second, card => card.State == CardState.Failed, "the card has failed");
        Assert.Contains("Xid 48", card.Detail, StringComparison.Ordinal);
        await AgentHarness.UntilAsync(() => faults.Count == 2, "both are told", 20);
        Assert.Equal([HolderEffect.OwnFault, HolderEffect.EndAll], faults.Select(fault => fault.Effect));
        Assert.Equal(CardState.Ready, cards.Cards.Single(other => other.Uuid == First).State);
    }

    [Fact]
    public async Task The_drivers_own_verdict_lifts_a_fault()
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0));
        using var cards = driver.Open();
        var states = new ConcurrentQueue<CardState>();
        cards.Changed += (_, _) => states.Enqueue(cards.Cards[0].State);
        driver.Set("event 0 8 48");
        await AgentHarness.UntilAsync(() => states.Contains(CardState.Failed), "the card has failed", 20);
        await StubDriver.UntilAsync(cards, First, card => card.State == CardState.Ready, "the driver finds it well");
        driver.Replace("card", StubDriver.Card(0, action: 1));
        var card = await StubDriver.UntilAsync(cards, First, card => card.State == CardState.Failed, "the driver wants a reset");
        Assert.Contains("reset", card.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_card_off_the_bus_drains_its_neighbours()
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0, action: -1), StubDriver.Card(1, action: -1));
        using var cards = driver.Open();
        driver.Set("event 0 8 79");
        await StubDriver.UntilAsync(cards, First, card => card.State == CardState.Failed, "the card has failed");
        var other = await StubDriver.UntilAsync(cards, Second, card => card.State == CardState.Draining, "its neighbour drains");
        Assert.Contains(First, other.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_driver_that_no_longer_tells_of_faults_makes_all_suspect_and_is_opened_anew()
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0), StubDriver.Card(1));
        using var cards = driver.Open();
        driver.Set("fail nvmlEventSetWait_v2 * 999");
        await AgentHarness.UntilAsync(() => cards.Cards.All(card => card.State == CardState.Suspect), "all are suspect", 20);
        driver.Replace("fail");
        await AgentHarness.UntilAsync(() => cards.Cards.All(card => card.State == CardState.Ready), "all are back", 20);
        var heard = new TaskCompletionSource<HolderEffect>(TaskCreationOptions.RunContinuationsAsynchronously);
        cards.Faulted += (_, fault) => heard.TrySetResult(fault.Effect);
        driver.Set("event 1 8 94");
        Assert.Equal(HolderEffect.EndSoleHolder, await heard.Task.WaitAsync(TimeSpan.FromSeconds(20), AgentHarness.Token));
    }

    [Fact]
    public async Task A_card_that_vanishes_stays_known_as_failed()
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0), StubDriver.Card(1));
        using var cards = driver.Open();
        driver.Replace($"card {Second}");
        var gone = await StubDriver.UntilAsync(cards, Second, card => card.State == CardState.Failed, "the card is missed");
        Assert.True(gone.Stale);
        Assert.Equal(CardState.Ready, cards.Cards[0].State);
    }

    [Fact]
    public async Task Measurements_alone_do_not_raise_a_change()
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0));
        using var cards = driver.Open();
        await StubDriver.UntilAsync(cards, First, card => !card.Stale, "the first samples are in");
        var changes = 0;
        cards.Changed += (_, _) => Interlocked.Increment(ref changes);
        driver.Replace("card", StubDriver.Card(0, usedMiB: 500));
        await StubDriver.UntilAsync(cards, First, card => card.UsedMemoryMiB == 500, "the new sample is in");
        Assert.Equal(0, changes);
    }

    [Fact]
    public async Task A_hold_of_the_node_shows_until_it_is_lifted()
    {
        using var driver = new StubDriver();
        driver.Set(StubDriver.Card(0));
        using var cards = driver.Open();
        cards.Hold(First, "check", CardState.Dirty, "left over");
        Assert.Equal((CardState.Dirty, "left over"), (cards.Cards[0].State, cards.Cards[0].Detail));
        cards.Hold(First, "check", CardState.Ready, "");
        await StubDriver.UntilAsync(cards, First, card => card.State == CardState.Ready, "the hold is lifted");
    }
}
