using System.Text.Json;
using GpuTasks.Cards;
using GpuTasks.Containers;
using GpuTasks.Functions;
using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Tasks;

namespace GpuTasks.Tests.Containers;

/// <summary>The whole way on a real engine: container, relay, function, report, release.</summary>
public sealed class AgentDockerTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private static Dictionary<string, string> Env(string name, string value) => new() { [name] = value };

    [Fact]
    public async Task A_run_goes_from_launch_to_report_and_the_instance_serves_the_next()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync();

        var first = await harness.StartRunAsync(id, new { mode = "echo", n = 1 });
        var report = await harness.ReportOfAsync(first);
        Assert.Equal((RunOutcome.Succeeded, 200, ""), (report.Outcome, report.StatusCode, report.Message));
        Assert.Equal("""{"mode":"echo","n":1}""", AgentHarness.TextOf(report.Response));
        Assert.Equal(first.Task, report.Task);
        Assert.Equal((1, id, harness.Options.Name), (report.Attempt, report.InstanceId, report.Node));
        Assert.Contains($"FC Invoke Start RequestId: {first.RequestId}", AgentHarness.TextOf(report.LogTail), StringComparison.Ordinal);
        await AgentHarness.UntilAsync(() => harness.Platform.FreedSlots.Contains(first.RunId), "the slot is free");

        // A late repeat of an order that is long over does not run it again.
        Assert.Equal(StartRunOutcome.Started, await harness.Agent.StartRunAsync(first, Token));
        Assert.False(await harness.Agent.CancelRunAsync(id, first.RunId, Token));

        var second = await harness.StartRunAsync(id, new { mode = "count" });
        Assert.Equal(RunOutcome.Succeeded, (await harness.ReportOfAsync(second)).Outcome);
        Assert.Single(harness.Platform.Runs, run => run.RunId == first.RunId);

        await harness.Agent.StopInstanceAsync(id, force: false, Token);
        await harness.UntilGoneAsync(id);
        Assert.Null(harness.Platform.Latest(id)?.Failure);
        Assert.Equal(StartRunOutcome.InstanceGone, await harness.Agent.StartRunAsync(harness.RunOf(id, new { mode = "echo" }), Token));

        var log = await harness.Agent.ReadLogAsync(first.Task!.Value, 1, 0, 1_000, Token);
        Assert.True(log is { Complete: true, DroppedBytes: 0 });
        Assert.Contains(first.RequestId, AgentHarness.TextOf(log.Data), StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_function_sees_the_contracts_environment_and_headers_and_no_network_user_or_card_it_should_not()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync(spec => spec with { Environment = new Dictionary<string, string> { ["MINE"] = "yes", ["NVIDIA_VISIBLE_DEVICES"] = "all" } });
        var run = await harness.StartRunAsync(id, new { mode = "env" });
        using var seen = JsonDocument.Parse((await harness.ReportOfAsync(run)).Response);
        var environment = seen.RootElement.GetProperty("environment");
        Assert.Equal("yes", environment.GetProperty("MINE").GetString());
        Assert.Equal("void", environment.GetProperty("NVIDIA_VISIBLE_DEVICES").GetString());
        Assert.Equal(id, environment.GetProperty("FC_INSTANCE_ID").GetString());
        Assert.Equal("256", environment.GetProperty("FC_FUNCTION_MEMORY_SIZE").GetString());
        var headers = seen.RootElement.GetProperty("headers");
        Assert.Equal(run.RequestId, headers.GetProperty("x-fc-request-id").GetString());
        Assert.Equal(run.Task!.Value.TaskId, headers.GetProperty("x-fc-async-task-id").GetString());
        Assert.Equal("/invoke", headers.GetProperty("x-fc-control-path").GetString());
        Assert.Equal("echo", headers.GetProperty("x-fc-function-name").GetString());
        Assert.Equal("0", headers.GetProperty("x-fc-retry-count").GetString());
    }

    [Theory]
    [InlineData("""{"mode":"fail"}""", RunOutcome.FunctionError)]
    [InlineData("""{"mode":"fail","fcStatus":404}""", RunOutcome.FunctionError)]
    [InlineData("""{"mode":"crash","exitCode":3}""", RunOutcome.Crashed)]
    [InlineData("""{"mode":"disconnect"}""", RunOutcome.Crashed)]
    [InlineData("""{"mode":"oom"}""", RunOutcome.HostOutOfMemory)]
    public async Task A_run_that_fails_is_reported_by_its_class(string payload, RunOutcome outcome)
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync();
        var run = await harness.StartRunAsync(id, JsonDocument.Parse(payload).RootElement);
        var report = await harness.ReportOfAsync(run);
        Assert.Equal(outcome, report.Outcome);
        Assert.NotEmpty(report.Message);
        if (outcome != RunOutcome.FunctionError)
        {
            await harness.UntilGoneAsync(id); // Such an instance is not used again.
            Assert.Null(harness.Platform.Latest(id)?.Failure);
        }
    }

    [Fact]
    public async Task A_limit_that_passes_while_the_agent_is_frozen_ends_no_instance_before_its_relay_was_heard()
    {
        var clock = new SkippingClock();
        await using var harness = await AgentHarness.OnDockerAsync(clock: clock);
        var id = await harness.LaunchReadyAsync();
        var run = await harness.StartRunAsync(id, new { mode = "sleep", seconds = 8 }); // Longer than one question to the relay waits.
        clock.Skip(TimeSpan.FromHours(1));
        Assert.Equal(RunOutcome.Succeeded, (await harness.ReportOfAsync(run)).Outcome);
        var next = await harness.StartRunAsync(id, new { mode = "echo" });
        Assert.Equal(RunOutcome.Succeeded, (await harness.ReportOfAsync(next)).Outcome);
    }

    [Fact]
    public async Task A_run_past_its_limit_times_out()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync();
        var run = await harness.StartRunAsync(id, new { mode = "ignore-term", seconds = 600 }, limitSeconds: 1);
        var report = await harness.ReportOfAsync(run);
        Assert.Equal(RunOutcome.TimedOut, report.Outcome);
        Assert.InRange(report.Duration.TotalSeconds, 0.9, 30);
        await harness.UntilGoneAsync(id);
    }

    [Fact]
    public async Task A_cancel_ends_a_run_that_ignores_sigterm_after_its_grace()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync();
        var run = await harness.StartRunAsync(id, new { mode = "ignore-term", seconds = 600 });
        await harness.UntilLoggedAsync(run, "SIGTERM will be ignored");
        var start = TimeProvider.System.GetTimestamp();
        Assert.True(await harness.Agent.CancelRunAsync(id, run.RunId, Token));
        Assert.True(await harness.Agent.CancelRunAsync(id, run.RunId, Token));
        var report = await harness.ReportOfAsync(run);
        Assert.Equal(RunOutcome.Cancelled, report.Outcome);
        Assert.InRange(TimeProvider.System.GetElapsedTime(start).TotalSeconds, 0.9, 60);
        await harness.UntilGoneAsync(id);
        Assert.Null(harness.Platform.Latest(id)?.Failure);
        Assert.False(await harness.Agent.CancelRunAsync(id, run.RunId, Token));
    }

    [Fact]
    public async Task A_run_that_was_cancelled_before_its_order_came_never_begins()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync();
        var order = harness.RunOf(id, new { mode = "echo" });
        Assert.False(await harness.Agent.CancelRunAsync(id, order.RunId, Token));
        await harness.Agent.StartRunAsync(order, Token);
        var next = await harness.StartRunAsync(id, new { mode = "echo" });
        await harness.ReportOfAsync(next, 10);
        Assert.DoesNotContain(harness.Platform.Runs, report => report.RunId == order.RunId);
    }

    [Fact]
    public async Task A_forced_stop_ends_everything_after_its_grace()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync();
        var run = await harness.StartRunAsync(id, new { mode = "ignore-term", seconds = 600 });
        await harness.UntilLoggedAsync(run, "SIGTERM will be ignored");
        var start = TimeProvider.System.GetTimestamp();
        await harness.Agent.StopInstanceAsync(id, force: true, Token);
        Assert.Equal(RunOutcome.Preempted, (await harness.ReportOfAsync(run)).Outcome);
        await harness.UntilGoneAsync(id);
        Assert.True(TimeProvider.System.GetElapsedTime(start).TotalSeconds < 60);
    }

    [Fact]
    public async Task A_graceful_stop_lets_the_run_end()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync();
        var run = await harness.StartRunAsync(id, new { mode = "sleep", seconds = 2 });
        await harness.Agent.StopInstanceAsync(id, force: false, Token);
        Assert.Equal(StartRunOutcome.InstanceGone, await harness.Agent.StartRunAsync(harness.RunOf(id, new { mode = "echo" }), Token));
        Assert.Equal(RunOutcome.Succeeded, (await harness.ReportOfAsync(run)).Outcome);
        await harness.UntilGoneAsync(id);
    }

    [Fact]
    public async Task A_full_instance_is_busy_and_concurrency_opens_more_places()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync(spec => spec with { InstanceConcurrency = 2 });
        var first = await harness.StartRunAsync(id, new { mode = "sleep", seconds = 2 });
        var second = await harness.StartRunAsync(id, new { mode = "sleep", seconds = 2 });
        Assert.Equal(StartRunOutcome.Busy, await harness.Agent.StartRunAsync(harness.RunOf(id, new { mode = "echo" }), Token));
        await AgentHarness.UntilAsync(() => harness.Platform.Latest(id)?.Runs.Count == 2, "two runs are told");
        Assert.Equal(RunOutcome.Succeeded, (await harness.ReportOfAsync(first)).Outcome);
        Assert.Equal(RunOutcome.Succeeded, (await harness.ReportOfAsync(second)).Outcome);
    }

    [Fact]
    public async Task Another_agent_goes_on_with_a_run_in_progress_without_a_restart()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync();
        var before = await harness.Engine.FindAsync(id, measure: false, Token);
        var run = await harness.StartRunAsync(id, new { mode = "sleep", seconds = 3 });
        await harness.AbandonAsync();
        await harness.StartAsync();
        // The order may come again, for its first answer was perhaps lost with the first agent.
        Assert.Equal(StartRunOutcome.Started, await harness.Agent.StartRunAsync(run, Token));
        var report = await harness.ReportOfAsync(run);
        Assert.Equal(RunOutcome.Succeeded, report.Outcome);
        Assert.Equal("""{"slept":3}""", AgentHarness.TextOf(report.Response));
        Assert.Equal(before?.Id, (await harness.Engine.FindAsync(id, measure: false, Token))?.Id);
        var next = await harness.StartRunAsync(id, new { mode = "echo" });
        Assert.Equal(RunOutcome.Succeeded, (await harness.ReportOfAsync(next)).Outcome);
    }

    [Fact]
    public async Task A_stream_goes_on_where_it_was_with_another_agent()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync();
        Assert.True(harness.Platform.Latest(id)!.Streams);
        var order = StreamOf(harness, id);
        Assert.Equal(StartRunOutcome.Started, await harness.Agent.StartRunAsync(order, Token));
        var head = (await ReadAsync(-1)).Head!;
        Assert.Equal(200, head.StatusCode);
        Assert.Contains(head.Headers, field => field is { Name: "x-echo-target", Value: "/x" });
        Assert.Equal(new BodyReceipt(5, Closed: false), await SendAsync(0, "first", last: false));
        Assert.Equal("first", AgentHarness.TextOf((await ReadAsync(0)).Data));
        await harness.AbandonAsync();
        await harness.StartAsync();

        // Whatever got no answer is asked for and sent again.
        Assert.Equal("first", AgentHarness.TextOf((await ReadAsync(0)).Data));
        Assert.Equal(5, (await SendAsync(0, "first", last: false)).Received);
        Assert.Equal(11, (await SendAsync(5, "second", last: false)).Received);
        Assert.Equal("second", AgentHarness.TextOf((await ReadAsync(5)).Data));
        await SendAsync(11, "", last: true);
        var report = (await ReadAsync(11)).Report!;
        Assert.Equal((RunOutcome.Succeeded, 200), (report.Outcome, report.StatusCode));
        Assert.Equal("firstsecond"[(int)report.ResponseFrom..], AgentHarness.TextOf(report.Response));
        Assert.True((await SendAsync(11, "late", last: true)).Closed);
        Assert.Equal(report.Outcome, (await ReadAsync(11)).Report!.Outcome);

        async Task<AnswerPart> ReadAsync(long from)
        {
            while (true)
            {
                var part = await harness.Agent.ReadAnswerAsync(id, order.RunId, from, TimeSpan.FromSeconds(5), Token);
                if (part is not { Head: null, Report: null } && (from < 0 || part.Report is not null || part.Data.Length > 0))
                {
                    return part;
                }
            }
        }

        Task<BodyReceipt> SendAsync(long from, string text, bool last) => harness.Agent.SendBodyAsync(
            id, order.RunId, new BodyPart { From = from, Data = System.Text.Encoding.UTF8.GetBytes(text), Last = last }, TimeSpan.FromSeconds(5), Token);
    }

    [Fact]
    public async Task Streams_that_wait_keep_no_order_waiting()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync(spec => spec with { InstanceConcurrency = 100 });
        var streams = Enumerable.Range(0, 90).Select(_ => StreamOf(harness, id)).ToList();
        foreach (var stream in streams)
        {
            Assert.Equal(StartRunOutcome.Started, await harness.Agent.StartRunAsync(stream, Token));
        }

        // Nothing is sent to them, so nothing comes back.
        await Task.WhenAll(streams.Select(HeadAsync));
        var reads = streams.ConvertAll(stream => harness.Agent.ReadAnswerAsync(id, stream.RunId, 0, TimeSpan.FromSeconds(10), Token));
        await Task.Delay(500, Token);
        await harness.ReportOfAsync(await harness.StartRunAsync(id, new { mode = "echo", text = "now" }));
        Assert.All(reads, read => Assert.False(read.IsCompleted));

        async Task HeadAsync(RunOrder stream)
        {
            while ((await harness.Agent.ReadAnswerAsync(id, stream.RunId, -1, TimeSpan.FromSeconds(5), Token)).Head is null)
            {
            }
        }
    }

    private static RunOrder StreamOf(AgentHarness harness, string id) => harness.RunOf(id, "") with
    {
        Task = null,
        Attempt = 0,
        Payload = [],
        Http = new HttpCall { Method = "POST", Target = "/x", Headers = [new HttpField("x-a", "b")] },
        Streams = true,
        BodyBytes = -1,
    };

    [Fact]
    public async Task When_the_store_is_set_back_runs_go_on_and_what_nobody_knows_is_kept()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync(spec => spec with { InstanceConcurrency = 2 });
        var early = await harness.StartRunAsync(id, new { mode = "count" });
        await harness.ReportOfAsync(early);
        await AgentHarness.UntilAsync(() => harness.Platform.FreedSlots.Contains(early.RunId), "the slot is free");
        var known = await harness.StartRunAsync(id, new { mode = "sleep", seconds = 3 });
        var unknown = await harness.StartRunAsync(id, new { mode = "sleep", seconds = 3 });
        harness.Platform.UnknownTask = unknown.Task;
        harness.Platform.SetBack();
        await AgentHarness.UntilAsync(() => harness.Platform.Leases.Contains(id), "the lease is kept");
        Assert.Equal(new[] { known.Task!.Value, unknown.Task!.Value }.ToHashSet(), harness.Platform.TakenUp.Select(run => run.Task).ToHashSet());
        Assert.All(harness.Platform.TakenUp, run => Assert.Equal((1, id), (run.Attempt, run.Instance)));
        Assert.Equal(RunOutcome.Succeeded, (await harness.ReportOfAsync(known)).Outcome);
        await AgentHarness.UntilAsync(() => harness.Platform.LastReport!.Facts.Any(fact => fact.Contains("unclaimed", StringComparison.Ordinal)), "the end is kept");
        Assert.Contains(harness.Platform.LastReport!.Facts, fact => fact.Contains("set back", StringComparison.Ordinal) && fact.Contains(id, StringComparison.Ordinal));
        var kept = Assert.Single(Directory.GetFiles(Path.Combine(harness.Options.DataDirectory, "unclaimed"), "*.json", SearchOption.AllDirectories));
        Assert.EndsWith($"{unknown.RunId}.json", kept, StringComparison.Ordinal);
        Assert.Equal(RunOutcome.Succeeded, DiskFiles.Load<RunReport>(kept)!.Outcome);
        Assert.Equal(InstanceState.Ready, harness.Platform.Latest(id)!.State);

        // What ended before has lost its answer with the store: its task is told so, and may run again.
        Assert.Equal(StartRunOutcome.InstanceGone, await harness.Agent.StartRunAsync(early, Token));
        Assert.Equal(StartRunOutcome.Started, await harness.Agent.StartRunAsync(known, Token));
    }

    [Fact]
    public async Task A_run_is_begun_on_no_second_instance_of_the_node_not_even_before_the_first_is_found_again()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var first = await harness.LaunchReadyAsync();
        var idle = await harness.LaunchReadyAsync();
        var run = await harness.StartRunAsync(first, new { mode = "sleep", seconds = 8 });
        var again = run with { InstanceId = idle };
        await Assert.ThrowsAsync<TimeoutException>(() => harness.Agent.StartRunAsync(again, Token));
        await AgentHarness.UntilAsync(() => harness.Platform.TakenUp.Contains((run.Task!.Value, 1, first)), "its task is told where it runs");

        await harness.AbandonAsync();
        await harness.StartAsync(waitUntilAdopted: false);
        await Assert.ThrowsAsync<TimeoutException>(() => harness.Agent.StartRunAsync(again, Token));

        // Another function's task may have the same id.
        await AgentHarness.UntilAsync(() => harness.Platform.LastReport is { Adopted: true }, "the agent adopts");
        var other = again with { Task = new TaskKey("1001", "other", run.Task!.Value.TaskId), Payload = "{\"mode\":\"count\"}"u8.ToArray() };
        await AgentHarness.UntilAsync(() => harness.Platform.Latest(idle) is { State: InstanceState.Ready }, "the idle one is found again");
        Assert.Equal(StartRunOutcome.Started, await harness.Agent.StartRunAsync(other, Token));
        await AgentHarness.UntilAsync(() => harness.Platform.Runs.Count(report => report.RunId == run.RunId) == 2, "both end");
        Assert.All(harness.Platform.Runs, report => Assert.Equal(RunOutcome.Succeeded, report.Outcome));
    }

    [Fact]
    public async Task A_run_that_ended_while_no_agent_was_there_is_reported_from_disk()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync();
        var answered = await harness.StartRunAsync(id, new { mode = "echo", text = "kept" });
        harness.Platform.RefuseRuns = int.MaxValue; // Its end cannot be told.
        await AgentHarness.UntilAsync(() => harness.Platform.RefuseRuns < int.MaxValue, "it was tried");
        await harness.AbandonAsync();
        await harness.Engine.KillAsync(id, Token);
        harness.Platform.RefuseRuns = 0;
        await harness.StartAsync();
        var report = await harness.ReportOfAsync(answered);
        Assert.Equal(RunOutcome.Succeeded, report.Outcome);
        Assert.Contains("kept", AgentHarness.TextOf(report.Response), StringComparison.Ordinal);
        await harness.UntilGoneAsync(id);
    }

    [Fact]
    public async Task A_run_whose_container_was_removed_while_no_agent_was_there_is_no_fault_of_the_function()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync();
        var run = await harness.StartRunAsync(id, new { mode = "sleep", seconds = 600 });
        await harness.AbandonAsync();
        await harness.Engine.RemoveAsync(id, Token);
        await harness.StartAsync();
        Assert.Equal(RunOutcome.EngineError, (await harness.ReportOfAsync(run)).Outcome);
        await harness.UntilGoneAsync(id);
    }

    [Fact]
    public async Task Agents_that_die_at_any_moment_lose_no_run_and_repeat_none()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var random = new Random(7);
        var ids = new List<string>();
        for (var i = 0; i < 3; i++)
        {
            ids.Add(await harness.LaunchReadyAsync(spec => spec with { MemoryMiB = 128 }));
        }

        var waiting = Enumerable.Range(0, 24).Select(n => harness.RunOf(ids[n % ids.Count], new { mode = "sleep", seconds = random.NextDouble() / 2 })).ToList();
        var orders = waiting.ToList();
        var start = TimeProvider.System.GetTimestamp();
        while (waiting.Count > 0)
        {
            Assert.True(TimeProvider.System.GetElapsedTime(start).TotalSeconds < 120, $"{waiting.Count} runs were never taken.");
            using var life = new CancellationTokenSource(TimeSpan.FromMilliseconds(random.Next(20, 900)));
            while (!life.IsCancellationRequested && waiting.Count > 0)
            {
                foreach (var order in waiting.ToList())
                {
                    try
                    {
                        // A caller whose answer is lost asks again, of the next agent if need be.
                        if (await harness.Agent.StartRunAsync(order, life.Token) == StartRunOutcome.Started)
                        {
                            waiting.Remove(order);
                        }
                    }
                    catch (Exception e) when (e is OperationCanceledException or TimeoutException)
                    {
                        break;
                    }
                }

                await Task.Delay(10, Token);
            }

            await harness.AbandonAsync();
            await harness.StartAsync(waitUntilAdopted: random.Next(2) == 0);
        }

        foreach (var order in orders)
        {
            await AgentHarness.UntilAsync(() => harness.Platform.Runs.Any(report => report.RunId == order.RunId), $"{order.RunId} is reported");
            Assert.All(harness.Platform.Runs.Where(report => report.RunId == order.RunId), report => Assert.Equal(RunOutcome.Succeeded, report.Outcome));
        }

        foreach (var id in ids)
        {
            Assert.Equal(InstanceState.Ready, harness.Platform.Latest(id)?.State);
        }

        // Each function's own count: one line of beginning for each run.
        foreach (var id in ids)
        {
            var printed = string.Concat(Directory.EnumerateFiles(Path.Combine(harness.FolderOf(id), "box/logs")).Order().Select(File.ReadAllText));
            Assert.All(
                orders.Where(order => order.InstanceId == id),
                order => Assert.Equal(2, printed.Split($"FC Invoke Start RequestId: {order.RequestId}\n").Length));
        }
    }

    [Fact]
    public async Task A_run_that_went_with_a_reboot_of_the_machine_is_not_the_functions_fault()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync();
        var run = await harness.StartRunAsync(id, new { mode = "sleep", seconds = 600 });
        await harness.AbandonAsync();
        await harness.Engine.KillAsync(id, Token);
        var memo = Path.Combine(harness.FolderOf(id), "memo.json");
        await File.WriteAllTextAsync(memo, (await File.ReadAllTextAsync(memo, Token)).Replace(harness.Platform.LastReport!.BootId, "another-boot", StringComparison.Ordinal), Token);
        await harness.StartAsync();
        Assert.Equal(RunOutcome.NodeLost, (await harness.ReportOfAsync(run)).Outcome);
        await harness.UntilGoneAsync(id);
    }

    [Fact]
    public async Task An_end_that_a_power_cut_left_only_in_the_relays_journal_is_reported()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync();
        harness.Platform.RefuseRuns = int.MaxValue; // Its end cannot be told.
        var answered = await harness.StartRunAsync(id, new { mode = "echo", text = "kept" });
        await AgentHarness.UntilAsync(() => harness.Platform.RefuseRuns < int.MaxValue, "it was tried");
        await harness.AbandonAsync();
        await harness.Engine.KillAsync(id, Token);
        var memo = Path.Combine(harness.FolderOf(id), "memo.json");
        await File.WriteAllTextAsync(memo, (await File.ReadAllTextAsync(memo, Token)).Replace(harness.Platform.LastReport!.BootId, "another-boot", StringComparison.Ordinal), Token);
        // What was not synced: a file may be there without its bytes, or not at all.
        var run = Path.Combine(harness.FolderOf(id), "box", "runs", answered.RunId);
        File.Delete(Path.Combine(run, "state.json"));
        await File.WriteAllBytesAsync(Path.Combine(run, "response"), [], Token);
        harness.Platform.RefuseRuns = 0;
        await harness.StartAsync();
        var report = await harness.ReportOfAsync(answered);
        Assert.Equal(RunOutcome.Succeeded, report.Outcome);
        Assert.Contains("kept", AgentHarness.TextOf(report.Response), StringComparison.Ordinal);
        await harness.UntilGoneAsync(id);
    }

    [Fact]
    public async Task A_real_card_is_handed_over_by_its_identity_and_by_nothing_else()
    {
        const string Uuid = "GPU-00000000-0000-0000-0000-000000000001";
        var cards = new FixedCards([new CardReport { Uuid = Uuid, Type = "t", MemoryMiB = 1_000 }]);
        await using var harness = await AgentHarness.OnDockerAsync(cards: cards);
        var order = harness.Order(harness.NewId(), null, new CardShare(Uuid, 1_000, 1_000, 1));
        Assert.Equal(LaunchOutcome.Accepted, await harness.Agent.LaunchAsync(order, Token));
        var id = order.Lease.InstanceId;
        await AgentHarness.UntilAsync(() => harness.Platform.Latest(id) is { State: InstanceState.Ready } or { Failure: not null }, "it is ready");
        var failure = harness.Platform.Latest(id)!.Failure;
        Assert.SkipWhen(failure is { Outcome: RunOutcome.EngineError }, $"This engine has no hook that hands cards over: {failure?.Message}");
        Assert.Null(failure);
        using var client = new Docker.DotNet.DockerClientBuilder().WithEndpoint(new Uri(TestDocker.Endpoint)).Build();
        var found = await client.Containers.InspectContainerAsync(id, Token);
        var request = Assert.Single(found.HostConfig!.DeviceRequests!);
        Assert.Equal("nvidia", request.Driver);
        Assert.Equal([Uuid], request.DeviceIDs);
        Assert.Equal($"NVIDIA_VISIBLE_DEVICES={Uuid}", Assert.Single(found.Config!.Env!, line => line.StartsWith("NVIDIA_VISIBLE_DEVICES=", StringComparison.Ordinal)));
        var second = harness.Order(harness.NewId(), null, new CardShare(Uuid, 1, 1, 2));
        Assert.Equal(LaunchOutcome.Busy, await harness.Agent.LaunchAsync(second, Token));
        harness.Platform.Reclaim(second.Lease.InstanceId);
    }

    [Fact]
    public async Task A_container_killed_from_outside_is_noticed_and_its_run_reported()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync();
        var run = await harness.StartRunAsync(id, new { mode = "sleep", seconds = 600 });
        await harness.Engine.KillAsync(id, Token);
        Assert.Equal(RunOutcome.Crashed, (await harness.ReportOfAsync(run)).Outcome);
        await harness.UntilGoneAsync(id);
    }

    [Fact]
    public async Task An_image_that_cannot_be_had_is_an_image_error()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchAsync(spec => spec with { Container = spec.Container with { Image = "127.0.0.1:9/none:1" } });
        await harness.UntilGoneAsync(id);
        var failure = harness.Platform.Latest(id)!.Failure!;
        Assert.Equal(RunOutcome.ImageError, failure.Outcome);
        Assert.Contains("127.0.0.1:9/none:1", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_start_command_that_is_not_in_the_image_is_an_image_error()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchAsync(spec => spec with { Container = spec.Container with { Entrypoint = ["/no/such/program"] } });
        await harness.UntilGoneAsync(id);
        Assert.Equal(RunOutcome.ImageError, harness.Platform.Latest(id)?.Failure?.Outcome);
    }

    [Theory]
    [InlineData("LISTEN", "never")]
    [InlineData("START_EXIT_CODE", "3")]
    [InlineData("INITIALIZE_STATUS", "500")]
    public async Task A_function_that_never_gets_ready_is_an_initializer_error(string variable, string value)
    {
        await using var harness = await AgentHarness.OnDockerAsync(options => options.StartupTimeout = TimeSpan.FromSeconds(3));
        var id = await harness.LaunchAsync(spec => spec with { Environment = Env(variable, value), Initializer = new HookSpec("init", 3) });
        await harness.UntilGoneAsync(id);
        var failure = harness.Platform.Latest(id)!.Failure!;
        Assert.Equal(RunOutcome.InitializerError, failure.Outcome);
        Assert.NotEmpty(failure.Message);
    }

    [Fact]
    public async Task A_function_that_listens_late_is_waited_for()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchAsync(spec => spec with
        {
            Environment = Env("LISTEN_AFTER_SECONDS", "2"),
            Container = spec.Container with { HealthCheck = new HealthCheckSpec { HttpGetUrl = "/ready", PeriodSeconds = 1 } },
        });
        await AgentHarness.UntilAsync(() => harness.Platform.Latest(id)?.State == InstanceState.Starting, "it starts");
        Assert.Equal(StartRunOutcome.Busy, await harness.Agent.StartRunAsync(harness.RunOf(id, new { mode = "echo" }), Token));
        await AgentHarness.UntilAsync(() => harness.Platform.Latest(id)?.State == InstanceState.Ready, "it is ready");
    }

    [Fact]
    public async Task Internet_access_is_refused_without_an_egress_network()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchAsync(spec => spec with { InternetAccess = true });
        await harness.UntilGoneAsync(id);
        Assert.Contains("egress", harness.Platform.Latest(id)?.Failure?.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_flood_of_output_is_bounded_and_its_end_is_kept()
    {
        await using var harness = await AgentHarness.OnDockerAsync(options => options.LogBytes = 1 << 20);
        var id = await harness.LaunchReadyAsync();
        var run = await harness.StartRunAsync(id, new { mode = "flood", bytes = 20_000_000 });
        var report = await harness.ReportOfAsync(run);
        Assert.Equal(RunOutcome.Succeeded, report.Outcome);
        Assert.InRange(report.LogTail.Length, 1, RunReports.LogTailLimit);
        Assert.Contains($"FC Invoke End RequestId: {run.RequestId}", AgentHarness.TextOf(report.LogTail), StringComparison.Ordinal);
        var chunk = (await harness.Agent.ReadLogAsync(run.Task!.Value, 1, 0, 1 << 20, Token))!;
        Assert.True(chunk.DroppedBytes > 15_000_000, $"{chunk.DroppedBytes} bytes were dropped.");
        Assert.True(new FileInfo(Path.Combine(harness.Options.DataDirectory, $"logs/1001/echo/{run.RunId}.log")).Length <= 1 << 20);
        var box = new DirectoryInfo(Path.Combine(harness.FolderOf(id), "box/logs"));
        Assert.True(box.EnumerateFiles().Sum(file => file.Length) <= (1 << 20) + (1 << 18));
    }

    [Fact]
    public async Task A_log_is_read_while_the_run_goes_on()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync();
        var run = await harness.StartRunAsync(id, new { mode = "sleep", seconds = 3 });
        LogChunk? chunk = null;
        await AgentHarness.UntilAsync(
            () => (chunk = harness.Agent.ReadLogAsync(run.Task!.Value, 1, 0, 1_000, Token).Result) is { Data.Length: > 0 },
            "something can be read");
        Assert.False(chunk!.Complete);
        Assert.Empty(harness.Platform.Runs);
        await harness.ReportOfAsync(run);
        var rest = new List<byte>(chunk.Data);
        await AgentHarness.UntilAsync(
            () =>
            {
                chunk = harness.Agent.ReadLogAsync(run.Task!.Value, 1, chunk!.NextCursor, 1_000, Token).Result!;
                rest.AddRange(chunk.Data);
                return chunk.Complete;
            },
            "the log is complete");
        Assert.Contains($"FC Invoke End RequestId: {run.RequestId}", AgentHarness.TextOf([.. rest]), StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_end_of_a_run_is_told_until_it_is_heard()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        harness.Platform.RefuseRuns = 3;
        var id = await harness.LaunchReadyAsync();
        var run = await harness.StartRunAsync(id, new { mode = "echo" });
        Assert.Equal(RunOutcome.Succeeded, (await harness.ReportOfAsync(run)).Outcome);
        Assert.Equal(0, harness.Platform.RefuseRuns);
    }

    [Fact]
    public async Task A_synchronous_answer_waits_for_its_caller_even_when_the_instance_is_gone()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync();
        var run = harness.RunOf(id, new { mode = "answer", bytes = 3_000_000 }) with { RunId = "call-1", Task = null, Attempt = 0 };
        Assert.Equal(StartRunOutcome.Started, await harness.Agent.StartRunAsync(run, Token));
        await AgentHarness.UntilAsync(() => harness.Platform.FreedSlots.Contains("call-1"), "the slot is free");
        await harness.Agent.StopInstanceAsync(id, force: true, Token);
        await harness.UntilGoneAsync(id);
        var report = await harness.Agent.AwaitRunAsync("call-1", TimeSpan.FromSeconds(5), Token);
        Assert.Equal((RunOutcome.Succeeded, 3_000_000, false), (report!.Outcome, report.Response.Length, report.ResponseTruncated));
        Assert.Empty(harness.Platform.Runs);
        Assert.Null(await harness.Agent.AwaitRunAsync("call-2", TimeSpan.FromMilliseconds(50), Token));
    }

    [Fact]
    public async Task A_tasks_answer_is_cut_at_its_limit()
    {
        await using var harness = await AgentHarness.OnDockerAsync(options => options.MaxResultBytes = 1 << 20);
        var id = await harness.LaunchReadyAsync();
        var run = await harness.StartRunAsync(id, new { mode = "answer", bytes = 3_000_000 });
        var report = await harness.ReportOfAsync(run);
        Assert.Equal((RunOutcome.Succeeded, 1 << 20, true), (report.Outcome, report.Response.Length, report.ResponseTruncated));
    }

    [Fact]
    public async Task The_container_is_hardened_and_labelled()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var id = await harness.LaunchReadyAsync();
        using var client = new Docker.DotNet.DockerClientBuilder().WithEndpoint(new Uri(TestDocker.Endpoint)).Build();
        var found = await client.Containers.InspectContainerAsync(id, Token);
        var host = found.HostConfig!;
        Assert.Equal("none", host.NetworkMode);
        Assert.Equal(["ALL"], host.CapDrop);
        Assert.Equal(["no-new-privileges"], host.SecurityOpt);
        Assert.Equal((256L << 20, 256L << 20, 500_000_000L, 1_024L), (host.Memory, host.MemorySwap, host.NanoCPUs, host.PidsLimit));
        Assert.Equal(128L << 20, host.ShmSize);
        Assert.False(host.AutoRemove);
        Assert.False(host.Privileged);
        Assert.Equal(("json-file", "10m", "2"), (host.LogConfig!.Type, host.LogConfig.Config!["max-size"], host.LogConfig.Config["max-file"]));
        Assert.Contains(host.Ulimits!, limit => limit is { Name: "core", Hard: 0 });
        Assert.Contains(host.Binds!, bind => bind.EndsWith(":/.gputasks-relay:ro", StringComparison.Ordinal));
        var labels = found.Config!.Labels!;
        Assert.Equal((harness.Options.Name, "1001", "echo", id, "1"), (labels[Labels.Node], labels[Labels.Account], labels[Labels.Function], labels[Labels.Instance], labels[Labels.Revision]));
    }

    [Fact]
    public async Task An_instance_that_writes_more_than_its_disk_is_ended()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        // The count file grows by a line for each run, so the smallest limit is set below that of the contract.
        var id = await harness.LaunchReadyAsync(spec => spec with { DiskMiB = 0, Environment = Env("COUNT_FILE", "/count") });
        await harness.StartRunAsync(id, new { mode = "count" });
        await harness.UntilGoneAsync(id);
        Assert.Contains("disk", harness.Platform.Latest(id)?.Failure?.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Twenty_instances_come_and_go_and_leave_nothing()
    {
        await using var harness = await AgentHarness.OnDockerAsync();
        var ids = new List<string>();
        for (var i = 0; i < 20; i++)
        {
            ids.Add(await harness.LaunchAsync(spec => spec with { Cpu = 0.05, MemoryMiB = 128 }));
        }

        foreach (var id in ids)
        {
            await AgentHarness.UntilAsync(() => harness.Platform.Latest(id)?.State == InstanceState.Ready, $"{id} is ready", 180);
            await harness.Agent.StopInstanceAsync(id, force: false, Token);
        }

        foreach (var id in ids)
        {
            await harness.UntilGoneAsync(id, 180);
        }

        Assert.Empty(harness.Platform.Leases);
    }

    private sealed class FixedCards(IReadOnlyList<CardReport> cards) : ICardSource
    {
        public IReadOnlyList<CardReport> Cards => cards;

        public event EventHandler? Changed
        {
            add { }
            remove { }
        }

        // An idle driver: nobody is on any card.
        public Task<CardSample?> SampleNowAsync(string uuid, CancellationToken cancellationToken) =>
            Task.FromResult<CardSample?>(new CardSample { Uuid = uuid, UsedIsExact = true });
    }
}
