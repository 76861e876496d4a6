using System.Diagnostics;
using System.Text.Json.Nodes;
using GpuTasks.Containers;
using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Tasks;

namespace GpuTasks.Tests.Containers;

/// <summary>Orders, leases and faults of the engine; no container needs to run for them.</summary>
public sealed class AgentFencingTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task The_node_reports_what_it_has()
    {
        await using var harness = await AgentHarness.OnFakeAsync(new FakeEngine(), options =>
        {
            options.Cpus = 64;
            options.MemoryMiB = 1 << 20;
        });
        var report = harness.Platform.LastReport!;
        Assert.Equal(harness.Options.Name, report.Node);
        Assert.Equal((64_000, 1 << 20), (report.CpuMilli, report.MemoryMiB));
        Assert.True(report.DiskMiB > 0);
        Assert.Equal((await File.ReadAllTextAsync("/proc/sys/kernel/random/boot_id", Token)).Trim(), report.BootId);
        Assert.Equal(2, report.Cards.Count);
    }

    [Fact]
    public async Task No_launch_is_taken_before_the_engine_was_met()
    {
        var engine = new FakeEngine();
        engine.Failures["info"] = new Queue<EngineException>([new(EngineFault.Unreachable, "away")]);
        await using var harness = await AgentHarness.OnFakeAsync(engine);
        await harness.AbandonAsync();
        engine.Failures["info"] = new Queue<EngineException>(Enumerable.Repeat(new EngineException(EngineFault.Unreachable, "away"), 1));
        await harness.StartAsync(waitUntilAdopted: false);
        Assert.Equal(LaunchOutcome.Busy, await harness.Agent.LaunchAsync(harness.Order(harness.NewId()), Token));
    }

    [Theory]
    [InlineData("1.40", "runc", true, false, "API")]
    [InlineData("1.41", "nvidia", true, false, "runtime")]
    [InlineData("1.41", "runc", false, true, "live-restore")]
    public async Task An_engine_that_cannot_be_trusted_is_refused(string api, string runtime, bool liveRestore, bool required, string word)
    {
        var engine = new FakeEngine { Info = new EngineInfo(Version.Parse(api), "fake", 1, liveRestore, runtime) };
        var e = await Assert.ThrowsAsync<InvalidOperationException>(async () =>
        {
            await using var harness = await AgentHarness.OnFakeAsync(new FakeEngine(), options => options.RequireLiveRestore = required);
            await harness.AbandonAsync();
            using var agent = new NodeAgent(
                Microsoft.Extensions.Options.Options.Create(harness.Options),
                engine,
                harness.Platform,
                harness.Cards,
                TimeProvider.System,
                Microsoft.Extensions.Logging.Abstractions.NullLogger<NodeAgent>.Instance);
            await agent.StartAsync(Token);
            await agent.ExecuteTask!.WaitAsync(TimeSpan.FromSeconds(20), Token);
        });
        Assert.Contains(word, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_repeated_launch_is_accepted_and_makes_one_container()
    {
        var engine = new FakeEngine();
        await using var harness = await AgentHarness.OnFakeAsync(engine);
        var order = harness.Order(harness.NewId());
        Assert.Equal(LaunchOutcome.Accepted, await harness.Agent.LaunchAsync(order, Token));
        Assert.Equal(LaunchOutcome.Accepted, await harness.Agent.LaunchAsync(order, Token));
        await AgentHarness.UntilAsync(() => harness.Platform.Latest(order.Lease.InstanceId)?.State == InstanceState.Starting, "it starts");
        Assert.Single(engine.Plans);
    }

    [Fact]
    public async Task An_instance_whose_folder_cannot_be_written_fails_and_gives_its_lease_back()
    {
        var engine = new FakeEngine();
        engine.Failures["find"] = new Queue<EngineException>(Enumerable.Repeat(new EngineException(EngineFault.Unreachable, "away"), 3));
        await using var harness = await AgentHarness.OnFakeAsync(engine);
        var id = await harness.LaunchAsync();

        // As on a full disk: neither that it was started nor why it failed can be noted.
        var memo = Path.Combine(harness.FolderOf(id), "memo.json");
        File.Delete(memo);
        Directory.CreateDirectory(memo);
        await harness.UntilGoneAsync(id);
        Assert.Contains(harness.Platform.Statuses, status => status.InstanceId == id && status.Failure is { Outcome: RunOutcome.EngineError });
    }

    [Fact]
    public async Task A_lease_that_was_taken_back_is_stale()
    {
        await using var harness = await AgentHarness.OnFakeAsync(new FakeEngine());
        var order = harness.Order(harness.NewId());
        harness.Platform.Reclaim(order.Lease.InstanceId);
        var reports = harness.Platform.Reports;
        await AgentHarness.UntilAsync(() => harness.Platform.Reports > reports + 1, "a directive came");
        Assert.Equal(LaunchOutcome.StaleLease, await harness.Agent.LaunchAsync(order, Token));
        Assert.Equal(LaunchOutcome.StaleLease, await harness.Agent.LaunchAsync(harness.Order("x") with { Lease = order.Lease with { Node = "other", NodeEpoch = 999 } }, Token));
        harness.Platform.Reclaim("x");
    }

    [Fact]
    public async Task A_stop_of_a_lease_that_was_never_launched_gives_it_back_and_closes_the_door()
    {
        await using var harness = await AgentHarness.OnFakeAsync(new FakeEngine());
        var order = harness.Order(harness.NewId());
        harness.Platform.RefuseReleases = 2;
        await harness.Agent.StopInstanceAsync(order.Lease.InstanceId, force: false, Token);
        await AgentHarness.UntilAsync(() => harness.Platform.Released.Contains(order.Lease.InstanceId), "the lease is given back");
        Assert.Equal(LaunchOutcome.StaleLease, await harness.Agent.LaunchAsync(order, Token));
        await harness.AbandonAsync();
        await harness.StartAsync();
        Assert.Equal(LaunchOutcome.StaleLease, await harness.Agent.LaunchAsync(order with { Lease = order.Lease with { NodeEpoch = 999 } }, Token));
    }

    [Fact]
    public async Task A_lease_that_nobody_launches_is_given_back()
    {
        await using var harness = await AgentHarness.OnFakeAsync(new FakeEngine());
        var id = harness.NewId();
        harness.Platform.Grant(id);
        await AgentHarness.UntilAsync(() => harness.Platform.Released.Contains(id), "the lease is given back");
    }

    [Fact]
    public async Task An_instance_without_a_lease_leaves()
    {
        await using var harness = await AgentHarness.OnFakeAsync(new FakeEngine());
        var id = await harness.LaunchAsync();
        await AgentHarness.UntilAsync(() => harness.Platform.Latest(id)?.State == InstanceState.Starting, "it starts");
        harness.Platform.Reclaim(id);
        await harness.UntilGoneAsync(id);
    }

    [Fact]
    public async Task The_node_never_gives_out_more_of_a_card_than_it_has()
    {
        await using var harness = await AgentHarness.OnFakeAsync(new FakeEngine(), options => options.UnusedLeaseGrace = TimeSpan.FromMinutes(1));
        var card = harness.Cards.Cards[0].Uuid;
        var first = harness.Order(harness.NewId(), null, new CardShare(card, 10_000, 611, 1));
        var second = harness.Order(harness.NewId(), null, new CardShare(card, 7_000, 428, 2));
        Assert.Equal(LaunchOutcome.Accepted, await harness.Agent.LaunchAsync(first, Token));
        Assert.Equal(LaunchOutcome.Busy, await harness.Agent.LaunchAsync(second, Token));
        await harness.Agent.StopInstanceAsync(first.Lease.InstanceId, force: true, Token);
        await harness.UntilGoneAsync(first.Lease.InstanceId);
        Assert.Equal(LaunchOutcome.Accepted, await harness.Agent.LaunchAsync(second, Token));
    }

    [Fact]
    public async Task A_name_that_could_mean_something_else_is_refused()
    {
        await using var harness = await AgentHarness.OnFakeAsync(new FakeEngine());
        var order = harness.Order("x");
        harness.Platform.Reclaim("x");
        await Assert.ThrowsAsync<ArgumentException>(() => harness.Agent.LaunchAsync(order with { Lease = order.Lease with { InstanceId = "../x" } }, Token));
        await Assert.ThrowsAsync<ArgumentException>(() => harness.Agent.StartRunAsync(new RunOrder { RunId = "../x", InstanceId = "x", RequestId = "r", Limit = TimeSpan.FromSeconds(1) }, Token));
    }

    [Theory]
    [InlineData("image", "ImageMissing", RunOutcome.ImageError)]
    [InlineData("create", "Failed", RunOutcome.EngineError)]
    [InlineData("start", "ImageCannotStart", RunOutcome.ImageError)]
    [InlineData("start", "CardHandOver", RunOutcome.EngineError)]
    public async Task A_launch_that_fails_says_so_by_its_class_and_gives_the_lease_back(string call, string fault, RunOutcome outcome)
    {
        var engine = new FakeEngine();
        await using var harness = await AgentHarness.OnFakeAsync(engine);
        engine.Failures[call] = new Queue<EngineException>([new(Enum.Parse<EngineFault>(fault), "as told")]);
        var id = await harness.LaunchAsync();
        await harness.UntilGoneAsync(id);
        Assert.Equal(new LaunchFailure(outcome, "as told"), harness.Platform.Latest(id)?.Failure);
        Assert.Equal(LaunchOutcome.StaleLease, await harness.Agent.LaunchAsync(harness.Order(id), Token));
        harness.Platform.Reclaim(id);
    }

    [Fact]
    public async Task An_engine_that_is_away_for_a_moment_costs_nothing()
    {
        var engine = new FakeEngine();
        await using var harness = await AgentHarness.OnFakeAsync(engine);
        engine.Failures["create"] = new Queue<EngineException>([new(EngineFault.Unreachable, "away"), new(EngineFault.Conflict, "raced")]);
        engine.Failures["start"] = new Queue<EngineException>([new(EngineFault.Unreachable, "away")]);
        var id = await harness.LaunchAsync();
        await AgentHarness.UntilAsync(() => engine.FindAsync(id, false, Token).Result?.State == ContainerState.Running, "it runs");
        Assert.Null(harness.Platform.Latest(id)?.Failure);
    }

    /// <summary>An agent may die between the durable start of a task and its order; the next one must not cost the task an attempt.</summary>
    [Fact]
    public async Task A_run_that_the_earlier_agent_never_heard_of_is_not_refused_while_its_instance_is_found_again()
    {
        var engine = new FakeEngine();
        await using var harness = await AgentHarness.OnFakeAsync(engine, options => options.RelaySilence = TimeSpan.FromSeconds(5));
        var id = await harness.LaunchAsync();
        await AgentHarness.UntilAsync(() => harness.Platform.Latest(id)?.State == InstanceState.Starting, "it starts");
        await harness.AbandonAsync();
        var path = Path.Combine(harness.FolderOf(id), "memo.json");
        var memo = JsonNode.Parse(await File.ReadAllTextAsync(path, Token))!;
        memo["WasReady"] = true;
        await File.WriteAllTextAsync(path, memo.ToJsonString(), Token);

        var found = new TaskCompletionSource();
        engine.Finding = found.Task;
        await harness.StartAsync(waitUntilAdopted: false);
        var order = harness.RunOf(id, new { mode = "echo" });
        var meanwhile = await Record.ExceptionAsync(() => harness.Agent.StartRunAsync(order, Token));
        found.SetResult();
        Assert.Contains("being found again", Assert.IsType<TimeoutException>(meanwhile).Message, StringComparison.Ordinal);

        // Found, it is handed the order; that nothing answers there is the fake's fault.
        await AgentHarness.UntilAsync(() => harness.Platform.Latest(id)?.State == InstanceState.Ready, "it is found");
        var e = await Assert.ThrowsAsync<TimeoutException>(() => harness.Agent.StartRunAsync(order, Token));
        Assert.Contains("did not confirm", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_container_of_nobody_is_removed_and_others_are_left_alone()
    {
        var engine = new FakeEngine();
        await using var harness = await AgentHarness.OnFakeAsync(engine);
        var plan = new ContainerPlan
        {
            Name = "stray",
            Image = TestDocker.EchoImage,
            Entrypoint = [],
            Command = [],
            Environment = [],
            Labels = new Dictionary<string, string> { [Labels.Node] = harness.Options.Name },
            Binds = [],
            MemoryBytes = 1,
            NanoCpus = 1,
            SharedMemoryBytes = 1,
            PidsLimit = 1,
            Network = "none",
            ReadOnlyRoot = false,
        };
        await engine.CreateAsync(plan, Token);
        await engine.CreateAsync(plan with { Name = "foreign", Labels = new Dictionary<string, string> { [Labels.Node] = "other" } }, Token);
        await AgentHarness.UntilAsync(() => engine.FindAsync("stray", false, Token).Result is null, "the stray is removed");
        Assert.NotNull(await engine.FindAsync("foreign", false, Token));
    }

    [Fact]
    public async Task A_relay_that_never_speaks_is_given_up()
    {
        await using var harness = await AgentHarness.OnFakeAsync(new FakeEngine(), options => options.RelaySilence = TimeSpan.FromSeconds(5));
        var id = await harness.LaunchAsync();
        await harness.UntilGoneAsync(id);
        Assert.Equal(RunOutcome.EngineError, harness.Platform.Latest(id)?.Failure?.Outcome);
    }

    [Fact]
    public async Task An_agent_that_was_frozen_does_not_take_its_own_silence_for_the_relays()
    {
        var clock = new SkippingClock();
        await using var harness = await AgentHarness.OnFakeAsync(new FakeEngine(), options => options.RelaySilence = TimeSpan.FromSeconds(5), clock);
        var launched = Stopwatch.StartNew();
        var id = await harness.LaunchAsync();
        await AgentHarness.UntilAsync(() => harness.Platform.Latest(id)?.State == InstanceState.Starting, "it starts");
        clock.Skip(TimeSpan.FromHours(1));

        // Of the hour two seconds count, so three of silence are left at the least, however slow the machine is.
        await harness.UntilGoneAsync(id);
        Assert.True(launched.Elapsed > TimeSpan.FromSeconds(2.9), $"It was given up after {launched.Elapsed}.");
    }

    [Fact]
    public async Task An_instance_whose_container_vanished_is_reported_and_released()
    {
        var engine = new FakeEngine();
        await using var harness = await AgentHarness.OnFakeAsync(engine);
        var id = await harness.LaunchAsync();
        await AgentHarness.UntilAsync(() => harness.Platform.Latest(id)?.State == InstanceState.Starting, "it starts");
        await engine.RemoveAsync(id, Token);
        await harness.UntilGoneAsync(id);
        Assert.Equal(RunOutcome.EngineError, harness.Platform.Latest(id)?.Failure?.Outcome);
    }
}
