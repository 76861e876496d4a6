using System.Collections.Concurrent;
using System.Globalization;
using GpuTasks.Cards;
using GpuTasks.Cards.Nvml;
using GpuTasks.Containers;
using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Tasks;
using GpuTasks.Tests.Containers;
using Microsoft.Extensions.Logging.Abstractions;

namespace GpuTasks.Tests.Nvml;

/// <summary>The guard over the stub driver, with a process list and an engine that are made up.</summary>
public sealed class CardGuardTests : IDisposable
{
    private static readonly string Card = StubDriver.Uuid(0);
    private readonly StubDriver driver = new();
    private readonly TestFolder proc = new();
    private readonly FakeEngine engine = new();
    private readonly ConcurrentQueue<CardHolder> holders = new();
    private readonly ConcurrentQueue<(string Instance, LaunchFailure Failure)> condemned = new();
    private readonly NvmlCards cards;
    private readonly CardGuard guard;

    public CardGuardTests()
    {
        driver.Set(StubDriver.Card(0), StubDriver.Card(1));
        cards = driver.Open();
        guard = new CardGuard(cards, engine, "node-1", TimeProvider.System, NullLogger.Instance, () => holders, new ProcessList(proc.Path), _ => TimeSpan.FromMilliseconds(50));
    }

    public void Dispose()
    {
        guard.Dispose();
        cards.Dispose();
        driver.Dispose();
        proc.Dispose();
    }

    private CardState State => cards.Cards.Single(card => card.Uuid == Card).State;

    [Fact]
    public async Task A_card_is_given_back_once_nobody_and_nothing_is_left_on_it()
    {
        var lease = Lease("i-1", 16_384);
        driver.Replace($"card {Card}", StubDriver.Card(0, usedMiB: 900));
        var proved = guard.ProveCleanAsync(lease, ContainerOf("i-1"), AgentHarness.Token);
        await AgentHarness.UntilAsync(() => State == CardState.Dirty, "the card is dirty", 20);
        Assert.False(proved.IsCompleted);
        driver.Replace($"card {Card}", StubDriver.Card(0, usedMiB: 3));
        await proved.WaitAsync(TimeSpan.FromSeconds(60), AgentHarness.Token);
        Assert.Equal(CardState.Ready, State);
    }

    [Fact]
    public async Task A_process_that_outlives_its_container_keeps_the_card()
    {
        Run(101, ContainerOf("i-1"));
        driver.Set(StubDriver.Process(Card, 101, 10));
        var proved = guard.ProveCleanAsync(Lease("i-1", 16_384), ContainerOf("i-1"), AgentHarness.Token);
        await AgentHarness.UntilAsync(() => State == CardState.Dirty, "the card is dirty", 20);
        Assert.Contains("101", cards.Cards[0].Detail, StringComparison.Ordinal);
        driver.Replace("proc");
        await proved.WaitAsync(TimeSpan.FromSeconds(60), AgentHarness.Token);
        Assert.Equal(CardState.Ready, State);
    }

    [Fact]
    public async Task A_stranger_is_left_alone_and_keeps_the_card_from_others_until_he_goes()
    {
        Run(102, "");
        driver.Set(StubDriver.Process(Card, 102, 900));
        await guard.ProveCleanAsync(Lease("i-1", 16_384), ContainerOf("i-1"), AgentHarness.Token).WaitAsync(TimeSpan.FromSeconds(60), AgentHarness.Token);
        Assert.Equal(CardState.Foreign, State);
        Assert.Contains("102", cards.Cards[0].Detail, StringComparison.Ordinal);
        driver.Replace("proc");
        await cards.SampleNowAsync(Card, AgentHarness.Token);
        await guard.CheckAsync(AgentHarness.Token);
        Assert.Equal(CardState.Ready, State);
    }

    [Fact]
    public async Task A_stranger_on_an_idle_card_is_found_without_any_lease()
    {
        Run(103, ContainerOf("of somebody else"));
        driver.Set(StubDriver.Process(Card, 103, 900));
        await CheckTwiceAsync();
        Assert.Equal(CardState.Foreign, State);
        Assert.Equal(CardState.Ready, cards.Cards[1].State);
    }

    [Fact]
    public async Task A_silent_driver_proves_nothing()
    {
        driver.Set("sleep nvmlDeviceGetMemoryInfo_v2 0 60000");
        var proved = guard.ProveCleanAsync(Lease("i-1", 16_384), ContainerOf("i-1"), AgentHarness.Token);
        await AgentHarness.UntilAsync(() => State == CardState.Suspect, "the card is suspect", 20);
        Assert.False(proved.IsCompleted);
        driver.Replace("sleep");
        await proved.WaitAsync(TimeSpan.FromSeconds(60), AgentHarness.Token);
        await StubDriver.UntilAsync(cards, Card, card => card.State == CardState.Ready, "the card is well");
    }

    [Fact]
    public async Task A_broken_card_is_left_to_its_repair()
    {
        driver.Set("fail * 0 15");
        await StubDriver.UntilAsync(cards, Card, card => card.State == CardState.Failed, "the card is lost");
        await guard.ProveCleanAsync(Lease("i-1", 16_384), ContainerOf("i-1"), AgentHarness.Token).WaitAsync(TimeSpan.FromSeconds(60), AgentHarness.Token);
        Assert.Equal(CardState.Failed, State);
    }

    [Fact]
    public async Task Other_slices_of_the_card_go_on_while_one_is_given_back()
    {
        await LiveAsync("i-2", 4_096);
        Run(104, ContainerOf("i-2"));
        driver.Replace($"card {Card}", StubDriver.Card(0, usedMiB: 4_000), StubDriver.Process(Card, 104, 4_000));
        await guard.ProveCleanAsync(Lease("i-1", 4_096), ContainerOf("i-1"), AgentHarness.Token).WaitAsync(TimeSpan.FromSeconds(60), AgentHarness.Token);
        Assert.Equal(CardState.Ready, State);
    }

    [Fact]
    public async Task Who_uses_more_than_its_slice_in_two_samples_is_ended_and_told()
    {
        await LiveAsync("i-1", 4_096);
        await LiveAsync("i-2", 4_096);
        Run(105, ContainerOf("i-1"));
        Run(106, ContainerOf("i-2"));
        driver.Set(StubDriver.Process(Card, 105, 4_200), StubDriver.Process(Card, 106, 5_000));
        await cards.SampleNowAsync(Card, AgentHarness.Token);
        await guard.CheckAsync(AgentHarness.Token);
        Assert.Empty(condemned);
        await CheckTwiceAsync();
        var (instance, failure) = Assert.Single(condemned);
        Assert.Equal(("i-2", RunOutcome.GpuOutOfMemory), (instance, failure.Outcome));
        Assert.Contains("5000 MiB", failure.Message, StringComparison.Ordinal);
        Assert.Contains("4096 MiB", failure.Message, StringComparison.Ordinal);
        Assert.Equal(CardState.Ready, State);
    }

    [Fact]
    public async Task Who_has_the_whole_card_is_not_measured()
    {
        await LiveAsync("i-1", 16_384);
        Run(107, ContainerOf("i-1"));
        driver.Set(StubDriver.Process(Card, 107, 17_500));
        await CheckTwiceAsync();
        await CheckTwiceAsync();
        Assert.Empty(condemned);
    }

    [Fact]
    public async Task A_fault_of_the_card_ends_every_holder_and_nobody_else()
    {
        await LiveAsync("i-1", 4_096);
        await LiveAsync("i-2", 4_096);
        await LiveAsync("i-3", 4_096, StubDriver.Uuid(1));
        driver.Set("event 0 8 48");
        await AgentHarness.UntilAsync(() => condemned.Count == 2, "both holders are ended", 20);
        Assert.Equal(["i-1", "i-2"], condemned.Select(entry => entry.Instance).Order());
        Assert.All(condemned, entry => Assert.Equal(RunOutcome.GpuFault, entry.Failure.Outcome));
        Assert.All(condemned, entry => Assert.Contains("Xid 48", entry.Failure.Message, StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_contained_error_ends_the_sole_holder()
    {
        await LiveAsync("i-1", 16_384);
        driver.Set("event 0 8 94");
        await AgentHarness.UntilAsync(() => condemned.Count == 1, "the holder is ended", 20);
    }

    [Fact]
    public async Task Programs_of_five_instances_that_fail_on_a_card_drain_it()
    {
        for (var i = 1; i <= 5; i++)
        {
            Assert.Equal(CardState.Ready, State);
            holders.Clear();
            await LiveAsync($"i-{i}", 16_384);
            var heard = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            cards.Faulted += (_, _) => heard.TrySetResult();
            driver.Set("event 0 8 31");
            await heard.Task.WaitAsync(TimeSpan.FromSeconds(60), AgentHarness.Token);
        }

        await AgentHarness.UntilAsync(() => State == CardState.Draining, "the card drains", 20);
        Assert.Empty(condemned); // Each fails by its own error.
    }

    [Fact]
    public void A_card_that_cannot_be_handed_over_three_times_is_suspect_until_it_can()
    {
        guard.HandOverFailed([Card], "no");
        guard.HandOverFailed([Card], "no");
        Assert.Equal(CardState.Ready, State);
        guard.HandOverFailed([Card], "no");
        Assert.Equal(CardState.Suspect, State);
        guard.HandedOver([Card]);
        Assert.Equal(CardState.Ready, State);
    }

    [Fact]
    public async Task Simulated_cards_are_clean_at_once()
    {
        var simulated = new SimulatedCards("node-1", "fc.gpu.tesla.1:16384");
        using var idle = new CardGuard(simulated, engine, "node-1", TimeProvider.System, NullLogger.Instance, () => []);
        await idle.ProveCleanAsync(Lease("i-1", 16_384) with { Cards = [new CardShare(simulated.Cards[0].Uuid, 16_384, 1_000, 1)] }, "", AgentHarness.Token);
        await idle.CheckAsync(AgentHarness.Token);
        Assert.Equal(CardState.Ready, simulated.Cards[0].State);
    }

    private static Lease Lease(string instance, int memoryMiB, string? card = null) => new()
    {
        InstanceId = instance,
        Account = "1001",
        Function = "f",
        Node = "node-1",
        Cards = [new CardShare(card ?? Card, memoryMiB, 1_000, 1)],
    };

    private static string ContainerOf(string instance) => Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(instance)));

    private Task LiveAsync(string instance, int memoryMiB, string? card = null)
    {
        engine.Add(ContainerOf(instance), instance, "node-1");
        holders.Enqueue(new CardHolder(Lease(instance, memoryMiB, card), failure => condemned.Enqueue((instance, failure))));
        return Task.CompletedTask;
    }

    private void Run(int pid, string container)
    {
        var folder = Directory.CreateDirectory(Path.Combine(proc.Path, pid.ToString(CultureInfo.InvariantCulture))).FullName;
        File.WriteAllText(Path.Combine(folder, "cgroup"), container.Length > 0 ? $"0::/system.slice/docker-{container}.scope\n" : "0::/user.slice/user-1000.slice\n");
    }

    private async Task CheckTwiceAsync()
    {
        for (var i = 0; i < 2; i++)
        {
            Assert.NotNull(await cards.SampleNowAsync(Card, AgentHarness.Token));
            await guard.CheckAsync(AgentHarness.Token);
        }
    }
}
