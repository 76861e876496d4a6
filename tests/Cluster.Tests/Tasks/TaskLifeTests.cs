using System.Text;
using GpuTasks.Dispatch;
using GpuTasks.Functions;
using GpuTasks.Hosting;
using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Storage;
using GpuTasks.Tasks;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Orleans.TestingHost;

namespace GpuTasks.Tests.Tasks;

/// <summary>The way of a task through real grains on a real store; only containers are fake.</summary>
public sealed class TaskLifeTests : IAsyncLifetime
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(30);
    private readonly string folder = Directory.CreateTempSubdirectory("gputasks-life-").FullName;
    private InProcessTestCluster cluster = null!;

    private FakeNodeAgent Node => (FakeNodeAgent)cluster.Silos[0].ServiceProvider.GetRequiredService<INodeAgent>();

    public async ValueTask InitializeAsync()
    {
        var configuration = new ConfigurationBuilder()
            .AddInMemoryCollection(new Dictionary<string, string?> { ["GpuTasks:Dispatch:IdleTimeoutSeconds"] = "2", ["GpuTasks:Retention:UnrecordedHours"] = "0.0003", ["GpuTasks:Retention:PeriodSeconds"] = "1" })
            .Build();
        var builder = new InProcessTestClusterBuilder(1);
        builder.ConfigureSilo((_, silo) =>
        {
            silo.AddGpuTasksStore(new StoreOptions { Path = Path.Combine(folder, "store.db") });
            silo.AddGpuTasksGrains(configuration);
            silo.Services.AddSingleton<FakeNodeAgent>();
            silo.Services.AddSingleton<INodeAgent>(services => services.GetRequiredService<FakeNodeAgent>());
            silo.Services.AddSingleton<IHostedService>(services => services.GetRequiredService<FakeNodeAgent>());
        });
        cluster = builder.Build();
        await cluster.DeployAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await cluster.DisposeAsync();
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public async Task A_task_goes_from_submit_to_success_and_keeps_its_answer()
    {
        var task = await SubmitAsync(await FunctionAsync(), "ok");
        var end = await UntilFinalAsync(task);
        Assert.Equal(GpuTaskStatus.Succeeded, end.Status);
        Assert.Equal("answer of " + TaskViews.RunId(end.Key.TaskId, 1), Encoding.UTF8.GetString(end.Result!));
        Assert.Equal([GpuTaskStatus.Enqueued, GpuTaskStatus.Running, GpuTaskStatus.Succeeded], end.Events.Select(e => e.Status));
    }

    [Fact]
    public async Task Parts_of_a_stream_reach_the_node_and_come_back()
    {
        var node = cluster.Client.GetGrain<INodeGrain>(Node.Node);
        var part = await node.ReadAnswer("i", "r", 7, TimeSpan.Zero);
        Assert.Equal((206, new HttpField("i", "r")), (part.Head!.StatusCode, Assert.Single(part.Head.Headers)));
        Assert.Equal([7], part.Data);
        Assert.Null(part.Report);
        Assert.Equal(new BodyReceipt(8, Closed: true), await node.SendBody("i", "r", new BodyPart { From = 5, Data = [1, 2, 3], Last = true }, TimeSpan.Zero));
    }

    [Fact]
    public async Task An_answer_beyond_the_records_limit_is_cut_there_and_whole_elsewhere()
    {
        var task = await SubmitAsync(await FunctionAsync(), "long 400000");
        var end = await UntilFinalAsync(task);
        Assert.Equal((true, 1_200_000), (end.ResultTruncated, end.ResultBytes));
        Assert.Equal(new string('€', (1 << 20) / 3), Encoding.UTF8.GetString(end.Result!));
        Assert.Contains("/result", end.Events[^1].Detail, StringComparison.Ordinal);
        var whole = (await task.GetResult())!;
        Assert.Equal((false, new string('€', 400_000)), (whole.Truncated, Encoding.UTF8.GetString(whole.Data)));
    }

    [Fact]
    public async Task A_task_has_an_activation_only_while_something_happens_to_it()
    {
        var function = await FunctionAsync();
        var batch = cluster.Client.GetGrain<ITaskBatchGrain>(function.GetPrimaryKeyString());
        await batch.Submit(new TaskBatch([.. Enumerable.Range(0, 200).Select(i => new NewTask($"w{i}", Submission("hold")))]));
        await UntilAsync(() => Node.Running.Count > 0);
        var management = cluster.Client.GetGrain<IManagementGrain>(0);
        Assert.InRange((await management.GetActiveGrains(GrainType.Create("task"))).Count, 1, 100);

        // Ended, and for those that are still looked at, after a few seconds.
        await function.Delete();
        var limit = DateTime.UtcNow + TimeSpan.FromSeconds(60);
        while ((await management.GetActiveGrains(GrainType.Create("task"))).Count > 0)
        {
            Assert.True(DateTime.UtcNow < limit, "They are still active.");
            await System.Threading.Tasks.Task.Delay(200);
        }
    }

    [Fact]
    public async Task A_purged_task_is_gone_also_from_memory_and_its_id_is_free()
    {
        var task = Task(await FunctionAsync(), "gone");
        Assert.Equal(SubmitOutcome.Accepted, await task.Submit(Submission("ok") with { Recorded = false }));
        await UntilFinalAsync(task);
        var limit = DateTime.UtcNow + Deadline;
        while (await task.Get(includeData: false) is not null)
        {
            Assert.True(DateTime.UtcNow < limit, "It is still there.");
            await System.Threading.Tasks.Task.Delay(50);
        }

        Assert.Equal(StopOutcome.NotFound, await task.Stop("late"));
        Assert.Equal(SubmitOutcome.Accepted, await task.Submit(Submission("hold")));
        Assert.Equal(SubmitOutcome.AlreadyExists, await task.Submit(Submission("hold")));

        // A node that remembers the earlier run of that name refuses it, which costs the caller no attempt.
        await UntilAsync(() => Node.Running.Any(run => run.StartsWith("gone.", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task The_same_id_twice_is_one_task()
    {
        var function = await FunctionAsync();
        var task = Task(function, "twice");
        var submission = Submission("ok");
        var answers = await System.Threading.Tasks.Task.WhenAll(Enumerable.Range(0, 10).Select(_ => task.Submit(submission with { RequestId = Guid.NewGuid().ToString() })));
        Assert.Single(answers, SubmitOutcome.Accepted);

        // A repeat of one request hears what the first heard.
        var repeat = Task(function, "repeat");
        Assert.All([await repeat.Submit(submission), await repeat.Submit(submission)], answer => Assert.Equal(SubmitOutcome.Accepted, answer));
        await UntilFinalAsync(task);
        Assert.Single(Node.Started, run => run.StartsWith("twice.", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_request_whose_answer_was_lost_may_be_repeated_and_is_one_task()
    {
        var function = await FunctionAsync();
        var task = Task(function, "repeated");
        var submission = Submission("ok");
        var answers = await System.Threading.Tasks.Task.WhenAll(Enumerable.Range(0, 10).Select(_ => task.Submit(submission)));
        Assert.All(answers, answer => Assert.Equal(SubmitOutcome.Accepted, answer));
        await UntilFinalAsync(task);
        Assert.Single(Node.Started, run => run.StartsWith("repeated.", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_batch_takes_each_task_once_and_all_of_them_run()
    {
        var function = await FunctionAsync();
        await SubmitAsync(function, "ok", id: "there");
        // An activation that has seen that its task does not exist must see it appear.
        var seen = Task(function, "b7");
        Assert.Null(await seen.Get(includeData: false));
        var batch = cluster.Client.GetGrain<ITaskBatchGrain>(function.GetPrimaryKeyString());
        var tasks = Enumerable.Range(0, 100).Select(i => new NewTask($"b{i}", Submission("ok"))).ToList();
        var outcomes = await batch.Submit(new TaskBatch([.. tasks, new NewTask("there", Submission("ok")), new NewTask("b3", Submission("ok"))]));
        Assert.Equal([.. Enumerable.Repeat(BatchOutcome.Accepted, 100), BatchOutcome.AlreadyExists, BatchOutcome.AlreadyExists], outcomes);
        Assert.NotNull(await seen.Get(includeData: false));
        foreach (var task in tasks)
        {
            Assert.Equal(GpuTaskStatus.Succeeded, (await UntilFinalAsync(Task(function, task.TaskId))).Status);
        }

        Assert.Equal(101, Node.Started.Distinct().Count());
        Assert.Equal(101, Node.Started.Count);
        // The answer to a batch that is repeated because its answer was lost.
        Assert.Equal(BatchOutcome.Accepted, (await batch.Submit(new TaskBatch([tasks[0]])))[0]);
        Assert.Equal(SubmitOutcome.AlreadyExists, await Task(function, "b1").Submit(Submission("ok")));
    }

    [Fact]
    public async Task A_failing_function_is_tried_as_often_as_permitted()
    {
        var function = await FunctionAsync();
        var failed = await UntilFinalAsync(await SubmitAsync(function, "fail", retries: 1));
        Assert.Equal((GpuTaskStatus.Failed, 2, 1), (failed.Status, failed.Attempt, failed.Retries));
        var recovered = await UntilFinalAsync(await SubmitAsync(function, "fail-until 2", retries: 1));
        Assert.Equal((GpuTaskStatus.Succeeded, 2, 1), (recovered.Status, recovered.Attempt, recovered.Retries));
    }

    [Fact]
    public async Task No_more_run_at_once_than_there_are_cards_and_the_rest_waits_its_turn()
    {
        var function = await FunctionAsync();
        var tasks = new List<ITaskGrain>();
        for (var i = 0; i < 5; i++)
        {
            tasks.Add(await SubmitAsync(function, "hold", id: $"h{i}"));
        }

        await UntilAsync(() => Node.Running.Count == 2);
        Assert.Equal(["h0.1", "h1.1"], Node.Running.Order());
        for (var i = 0; i < 5; i++)
        {
            await UntilAsync(() => Node.Running.Contains($"h{i}.1"));
            Assert.True(Node.Running.Count <= 2);
            await Node.FinishAsync($"h{i}.1");
        }

        foreach (var task in tasks)
        {
            Assert.Equal(GpuTaskStatus.Succeeded, (await UntilFinalAsync(task)).Status);
        }

        Assert.Equal(2, Node.LaunchCount);
    }

    [Fact]
    public async Task Stop_while_enqueued_never_launches_a_run()
    {
        await HaveCardsAsync(0);
        var task = await SubmitAsync(await FunctionAsync(), "ok", id: "queued");
        Assert.Equal(StopOutcome.Accepted, await task.Stop("asked"));
        Assert.Equal(GpuTaskStatus.Stopped, (await task.Get(false))!.Status);
        Node.Cards = 2;
        await UntilFinalAsync(await SubmitAsync(FunctionOf(task), "ok", id: "after"));
        Assert.DoesNotContain(Node.Started, run => run.StartsWith("queued.", StringComparison.Ordinal));
        Assert.Equal(StopOutcome.AlreadyFinal, await task.Stop("again"));
    }

    [Fact]
    public async Task Stop_while_running_is_stopping_until_the_run_is_seen_to_end()
    {
        var task = await SubmitAsync(await FunctionAsync(), "stubborn", id: "s");
        await UntilAsync(() => Node.Running.Contains("s.1"));
        Assert.Equal(StopOutcome.Accepted, await task.Stop("asked"));
        Assert.Equal(StopOutcome.Accepted, await task.Stop("twice"));
        Assert.Equal(GpuTaskStatus.Stopping, (await task.Get(false))!.Status);
        await Node.FinishAsync("s.1", RunOutcome.Cancelled);
        var end = await UntilFinalAsync(task);
        Assert.Equal((GpuTaskStatus.Stopped, 1), (end.Status, end.Attempt));
    }

    [Fact]
    public async Task A_lost_answer_of_the_node_starts_no_second_run()
    {
        Node.LoseAnswers = 2;
        var task = await SubmitAsync(await FunctionAsync(), "hold", id: "l");
        await UntilAsync(() => Node.LoseAnswers < 0);
        await Node.FinishAsync("l.1");
        var end = await UntilFinalAsync(task);
        Assert.Equal((GpuTaskStatus.Succeeded, 1), (end.Status, end.Attempt));
        Assert.Single(Node.Started);
    }

    [Fact]
    public async Task A_reboot_of_the_node_costs_no_attempt_of_the_callers()
    {
        var task = await SubmitAsync(await FunctionAsync(), "hold", retries: 0, id: "r");
        await UntilAsync(() => Node.Running.Contains("r.1"));
        Node.Reboot();
        await UntilAsync(() => Node.Running.Contains("r.2"), TimeSpan.FromSeconds(60));
        await Node.FinishAsync("r.2");
        var end = await UntilFinalAsync(task);
        Assert.Equal((GpuTaskStatus.Succeeded, 0, 1), (end.Status, end.Retries, end.PlatformFaults));
    }

    [Fact]
    public async Task A_broken_image_fails_the_task_after_its_attempts_and_says_why()
    {
        Node.FailLaunches = new LaunchFailure(RunOutcome.ImageError, "no such image: nowhere:1");
        var end = await UntilFinalAsync(await SubmitAsync(await FunctionAsync(), "ok", retries: 1));
        Assert.Equal((GpuTaskStatus.Failed, RunOutcome.ImageError, 2), (end.Status, end.Outcome, end.Attempt));
        Assert.Contains("nowhere:1", end.ErrorMessage, StringComparison.Ordinal);
        Assert.Empty(Node.Started);
    }

    [Fact]
    public async Task An_instance_that_was_ready_and_then_failed_costs_a_waiting_task_nothing_though_its_queue_heard_of_the_end_alone()
    {
        Node.FailLaunches = new LaunchFailure(RunOutcome.Crashed, "gone while idle");
        Node.FailsOnceReady = true;
        var task = await SubmitAsync(await FunctionAsync(), "ok");
        await UntilAsync(() => Node.LaunchCount >= 2);
        Node.FailLaunches = null;
        var end = await UntilFinalAsync(task);
        Assert.Equal((GpuTaskStatus.Succeeded, 1, 0), (end.Status, end.Attempt, end.PlatformFaults));
    }

    [Fact]
    public async Task A_task_nobody_serves_expires()
    {
        await HaveCardsAsync(0);
        var task = Task(await FunctionAsync(), "old");
        await task.Submit(Submission("ok") with { MaxEventAge = TimeSpan.FromSeconds(1) });
        Assert.Equal(GpuTaskStatus.Expired, (await UntilFinalAsync(task)).Status);
    }

    [Fact]
    public async Task Deleting_the_function_ends_what_waits_and_what_runs_and_its_instances_leave()
    {
        var function = await FunctionAsync();
        var running = await SubmitAsync(function, "hold", id: "d0");
        await UntilAsync(() => Node.Running.Contains("d0.1"));
        var more = new List<ITaskGrain>();
        for (var i = 1; i < 4; i++)
        {
            more.Add(await SubmitAsync(function, "hold", id: $"d{i}"));
        }

        Assert.Equal(FunctionChange.Done, await function.Delete());
        Assert.Equal(GpuTaskStatus.Stopped, (await UntilFinalAsync(running)).Status);
        Assert.Equal(GpuTaskStatus.Invalid, (await UntilFinalAsync(more[2])).Status);
        await UntilAsync(() => Node.InstanceCount == 0);
    }

    [Fact]
    public async Task An_idle_instance_leaves_and_its_card_serves_another_function()
    {
        await HaveCardsAsync(1);
        var first = await FunctionAsync();
        await UntilFinalAsync(await SubmitAsync(first, "ok", id: "one"));
        await UntilFinalAsync(await SubmitAsync(await FunctionAsync(), "ok", id: "two"));
        await UntilAsync(() => Node.InstanceCount == 0);
    }

    [Fact]
    public async Task A_new_definition_replaces_instances_after_their_runs()
    {
        var function = await FunctionAsync();
        var held = await SubmitAsync(function, "hold", id: "u1");
        await UntilAsync(() => Node.Running.Contains("u1.1"));
        var before = (await function.Get())!;
        Assert.Equal(FunctionChange.Conflict, await function.Update(before.Spec, before.Revision + 7));
        Assert.Equal(FunctionChange.Done, await function.Update(before.Spec with { TimeoutSeconds = 99 }, before.Revision));
        await UntilFinalAsync(await SubmitAsync(function, "ok", id: "u2"));
        Assert.Equal(2, Node.LaunchCount);
        Assert.Contains("u1.1", Node.Running);
        await Node.FinishAsync("u1.1");
        Assert.Equal(GpuTaskStatus.Succeeded, (await UntilFinalAsync(held)).Status);
    }

    [Fact]
    public async Task Tasks_survive_the_loss_of_every_activation()
    {
        var function = await FunctionAsync();
        var running = await SubmitAsync(function, "hold", id: "k0");
        await UntilAsync(() => Node.Running.Contains("k0.1"));
        Node.Cards = 1;
        var waiting = await SubmitAsync(function, "ok", id: "k1");
        await cluster.DeactivateAsync(running.GetGrainId());
        await cluster.DeactivateAsync(waiting.GetGrainId());
        await cluster.DeactivateAsync(cluster.Client.GetGrain<GpuTasks.Dispatch.IDispatcherGrain>(function.GetPrimaryKeyString()).GetGrainId());
        await Node.FinishAsync("k0.1");
        Assert.Equal(GpuTaskStatus.Succeeded, (await UntilFinalAsync(running)).Status);
        Assert.Equal(GpuTaskStatus.Succeeded, (await UntilFinalAsync(waiting)).Status);
        Assert.Single(Node.Started, run => run == "k0.1");
    }

    [Fact]
    public async Task The_destination_hears_of_the_end_once()
    {
        var sink = await FunctionAsync();
        Assert.Equal(FunctionChange.Done, await sink.SetAsyncConfig("LATEST", new AsyncInvokeConfig { TaskMode = true }, (await sink.Get())!.Revision));
        var sinkName = sink.GetPrimaryKeyString().Split('/')[1];
        var source = Task(await FunctionAsync(), "told");
        await source.Submit(Submission("fail", retries: 0) with { OnSuccess = "acs:fc:::functions/nobody", OnFailure = $"acs:fc:local-1:1001:functions/{sinkName}" });
        await UntilFinalAsync(source);
        var query = cluster.Client.GetGrain<ITaskQueryGrain>("1001");
        var limit = DateTime.UtcNow + Deadline;
        TaskPage told;
        while ((told = await query.List(new TaskQuery { Function = sinkName, IncludePayload = true })).Tasks.Count == 0)
        {
            Assert.True(DateTime.UtcNow < limit, "The destination was not told.");
            await System.Threading.Tasks.Task.Delay(50);
        }

        using var message = System.Text.Json.JsonDocument.Parse(Assert.Single(told.Tasks).Payload!);
        Assert.Equal("FunctionError", message.RootElement.GetProperty("requestContext").GetProperty("condition").GetString());
        Assert.Equal("fail", message.RootElement.GetProperty("requestPayload").GetString());
        while ((await source.Get(false))!.DestinationStatus != "Succeeded")
        {
            Assert.True(DateTime.UtcNow < limit, "The delivery is not noted.");
        }

        await cluster.DeactivateAsync(source.GetGrainId());
        await source.Wake();
        Assert.Single((await query.List(new TaskQuery { Function = sinkName })).Tasks);
    }

    [Fact]
    public async Task Tasks_of_different_versions_run_on_instances_of_their_own_definition()
    {
        await HaveCardsAsync(4);
        var function = await FunctionAsync();
        var first = (await function.PublishVersion("first")).Version!.VersionId;
        var now = (await function.Get())!;
        await function.Update(now.Spec with { Container = now.Spec.Container with { Image = "any:2" } }, now.Revision);
        var second = (await function.PublishVersion("second")).Version!.VersionId;
        now = (await function.Get())!;
        await function.Update(now.Spec with { Container = now.Spec.Container with { Image = "any:3" } }, now.Revision);
        foreach (var (id, version) in new[] { ("v1", first), ("v2", second), ("latest", null) })
        {
            await Task(function, id).Submit(Submission("hold") with { Version = version, Qualifier = version ?? "LATEST" });
        }

        await UntilAsync(() => Node.Running.Count == 3);
        Assert.Equal(
            [("latest.1", null, "any:3"), ("v1.1", first, "any:1"), ("v2.1", second, "any:2")],
            Node.Definitions.OrderBy(run => run.Key).Select(run => (run.Key, run.Value.Version, run.Value.Spec.Container.Image)));

        // A version that is gone takes its tasks with it, and those alone.
        now = (await function.Get())!;
        Assert.Equal(FunctionChange.Done, await function.DeleteVersion(first, now.Revision));
        Assert.Equal(GpuTaskStatus.Stopped, (await UntilFinalAsync(Task(function, "v1"))).Status);
        await Task(function, "late").Submit(Submission("ok") with { Version = first });
        Assert.Equal(GpuTaskStatus.Invalid, (await UntilFinalAsync(Task(function, "late"))).Status);
        await Node.FinishAsync("v2.1");
        await Node.FinishAsync("latest.1");
        Assert.Equal(GpuTaskStatus.Succeeded, (await UntilFinalAsync(Task(function, "v2"))).Status);
        Assert.Equal(GpuTaskStatus.Succeeded, (await UntilFinalAsync(Task(function, "latest"))).Status);
    }

    [Fact]
    public async Task All_instances_of_a_definition_start_from_the_image_that_the_first_one_found()
    {
        await HaveCardsAsync(2);
        var function = await FunctionAsync();
        Node.ResolvedImage = "any@sha256:1";
        await SubmitAsync(function, "hold", id: "first");
        await UntilAsync(() => Node.Running.Contains("first.1"));
        var limit = DateTime.UtcNow + Deadline;
        while ((await function.Get())!.ResolvedImage != "any@sha256:1")
        {
            Assert.True(DateTime.UtcNow < limit, "The digest is not noted.");
            await System.Threading.Tasks.Task.Delay(50);
        }

        // The tag moves on; the definition does not.
        Node.ResolvedImage = "any@sha256:2";
        await SubmitAsync(function, "hold", id: "second");
        await UntilAsync(() => Node.Running.Contains("second.1"));
        Assert.Equal(("any:1", "any@sha256:1"), (Image("first.1"), Image("second.1")));
        Assert.Equal("any@sha256:1", (await function.Get())!.ResolvedImage);
        await Node.FinishAsync("first.1");
        await Node.FinishAsync("second.1");
        var now = (await function.Get())!;
        await function.Update(now.Spec, now.Revision);
        await SubmitAsync(function, "hold", id: "third");
        await UntilAsync(() => Node.Running.Contains("third.1"));
        Assert.Equal("any:1", Image("third.1"));
        await Node.FinishAsync("third.1");

        string Image(string run) => Node.Definitions[run].Spec.Container.Image;
    }

    [Fact]
    public async Task A_disabled_function_starts_nothing_and_ends_what_runs_only_if_asked_to()
    {
        var function = await FunctionAsync();
        await SubmitAsync(function, "hold", id: "runs");
        await UntilAsync(() => Node.Running.Contains("runs.1"));
        await function.SetRestriction(new InvocationRestriction { Disabled = true, Reason = "maintenance" });
        var waits = await SubmitAsync(function, "ok", id: "waits");
        Assert.Null((await cluster.Client.GetGrain<IDispatcherGrain>(function.GetPrimaryKeyString()).Acquire("sync", TimeSpan.FromSeconds(1))).Slot);
        Assert.Contains("runs.1", Node.Running);
        await function.SetRestriction(new InvocationRestriction { Disabled = true, Abort = true, Reason = "now" });
        Assert.Equal(GpuTaskStatus.Stopped, (await UntilFinalAsync(Task(function, "runs"))).Status);
        Assert.Equal(GpuTaskStatus.Enqueued, (await waits.Get(false))!.Status);
        await function.SetRestriction(new InvocationRestriction());
        Assert.Equal(GpuTaskStatus.Succeeded, (await UntilFinalAsync(waits)).Status);
    }

    [Fact]
    public async Task Lists_and_counts_agree_with_the_tasks()
    {
        var function = await FunctionAsync();
        await UntilFinalAsync(await SubmitAsync(function, "ok", id: "a"));
        await UntilFinalAsync(await SubmitAsync(function, "fail", retries: 0, id: "b"));
        var query = cluster.Client.GetGrain<ITaskQueryGrain>("1001");
        var name = function.GetPrimaryKeyString().Split('/')[1];
        var page = await query.List(new TaskQuery { Function = name, Limit = 1, Ascending = true });
        var next = await query.List(new TaskQuery { Function = name, Limit = 1, Ascending = true, NextToken = page.NextToken });
        Assert.Equal(["a", "b"], page.Tasks.Concat(next.Tasks).Select(task => task.Key.TaskId));
        var counts = (await query.Count(name)).ByStatus;
        Assert.Equal((1, 1), (counts[GpuTaskStatus.Succeeded], counts[GpuTaskStatus.Failed]));
        Assert.Empty((await cluster.Client.GetGrain<ITaskQueryGrain>("1002").List(new TaskQuery { Function = name })).Tasks);
    }

    private async Task HaveCardsAsync(int count)
    {
        Node.Cards = count;
        var region = cluster.Client.GetGrain<IRegionQuotaGrain>("local-1");
        var limit = DateTime.UtcNow + Deadline;
        while ((await region.GetNodes()) is not [var node] || node.Report.Cards.Count != count)
        {
            Assert.True(DateTime.UtcNow < limit, "The region has not heard of the change.");
            await System.Threading.Tasks.Task.Delay(20);
        }
    }

    private async Task<IFunctionGrain> FunctionAsync()
    {
        var name = "f" + Guid.NewGuid().ToString("N")[..8];
        var function = cluster.Client.GetGrain<IFunctionGrain>($"1001/{name}");
        var created = await function.Create(new FunctionSpec
        {
            Name = name,
            Cpu = 1,
            MemoryMiB = 1024,
            Gpu = new GpuSpec("fc.gpu.tesla.1", 16_384),
            TimeoutSeconds = 600,
            Container = new ContainerSpec { Image = "any:1" },
        });
        Assert.Equal(FunctionChange.Done, created);
        return function;
    }

    private IFunctionGrain FunctionOf(ITaskGrain task) => cluster.Client.GetGrain<IFunctionGrain>(TaskKey.Parse(task.GetPrimaryKeyString()).FunctionKey);

    private ITaskGrain Task(IFunctionGrain function, string id) => cluster.Client.GetGrain<ITaskGrain>($"{function.GetPrimaryKeyString()}/{id}");

    private static TaskSubmission Submission(string script, int retries = 3) => new()
    {
        RequestId = Guid.NewGuid().ToString(),
        Payload = Encoding.UTF8.GetBytes(script),
        MaxRetryAttempts = retries,
    };

    private async Task<ITaskGrain> SubmitAsync(IFunctionGrain function, string script, int retries = 3, string? id = null)
    {
        var task = Task(function, id ?? "t" + Guid.NewGuid().ToString("N")[..8]);
        Assert.Equal(SubmitOutcome.Accepted, await task.Submit(Submission(script, retries)));
        return task;
    }

    private static async Task<TaskSnapshot> UntilFinalAsync(ITaskGrain task)
    {
        TaskSnapshot? seen = null;
        var limit = DateTime.UtcNow + TimeSpan.FromSeconds(60);
        while (DateTime.UtcNow < limit)
        {
            seen = await task.Get(includeData: true);
            if (seen!.Status.IsFinal())
            {
                return seen;
            }

            await System.Threading.Tasks.Task.Delay(20);
        }

        throw new TimeoutException($"Task {task.GetPrimaryKeyString()} is still {seen?.Status}: {seen?.ErrorMessage}");
    }

    private static async Task UntilAsync(Func<bool> condition, TimeSpan? deadline = null)
    {
        var limit = DateTime.UtcNow + (deadline ?? Deadline);
        while (!condition())
        {
            Assert.True(DateTime.UtcNow < limit, "The condition did not come true in time.");
            await System.Threading.Tasks.Task.Delay(20);
        }
    }
}
