using System.Diagnostics;
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

/// <summary>Why tasks wait, and instances that wait for tasks, through real grains on a real store; only containers are fake. Queues in memory hold 16 tasks.</summary>
public sealed class WaitTests : IAsyncLifetime
{
    private const string T4 = "fc.gpu.tesla.1";
    private const int Card = 16_384;
    private readonly string folder = Directory.CreateTempSubdirectory("gputasks-wait-").FullName;
    private InProcessTestCluster cluster = null!;

    private FakeNodeAgent Node => (FakeNodeAgent)cluster.Silos[0].ServiceProvider.GetRequiredService<INodeAgent>();

    private IRegionQuotaGrain Region => cluster.Client.GetGrain<IRegionQuotaGrain>("local-1");

    public async ValueTask InitializeAsync()
    {
        var configuration = new ConfigurationBuilder()
            .AddInMemoryCollection(new Dictionary<string, string?> { ["GpuTasks:Dispatch:IdleTimeoutSeconds"] = "2", ["GpuTasks:Dispatch:WindowCapacity"] = "16" })
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
        Node.ForcedOutcome = RunOutcome.Preempted;
        await UntilAsync(async () => await Region.GetNodes() is [{ Reachable: true }]);
    }

    public async ValueTask DisposeAsync()
    {
        await cluster.DisposeAsync();
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public async Task Every_waiting_task_has_its_exact_rank_also_beyond_what_the_queue_holds_in_memory()
    {
        var function = await FunctionAsync(T4, Card);
        var batch = cluster.Client.GetGrain<ITaskBatchGrain>(function);
        await batch.Submit(new TaskBatch([.. Enumerable.Range(0, 60).Select(i => new NewTask($"t{i:d2}", Submission("hold", priority: i == 57 ? 5 : 0)))]));
        await UntilAsync(() => Task.FromResult(Node.Running.Count == 2));
        var waiting = new List<WaitView>();
        await UntilAsync(async () =>
        {
            waiting.Clear();
            for (var i = 0; i < 60; i++)
            {
                if (await TaskOf(function, $"t{i:d2}").Get(includeData: false) is { Status: GpuTaskStatus.Enqueued } task)
                {
                    waiting.Add(await ExplainAsync(task));
                }
            }

            return waiting.Count == 58 && waiting.All(wait => wait.Reason == TaskWaitReason.NoFreeCard);
        });
        Assert.Equal(Enumerable.Range(1, 58), waiting.Select(wait => (int)wait.Rank).Order());
        Assert.All(waiting, wait => Assert.Null(wait.EstimatedStart));
        Assert.All(waiting, wait => Assert.Contains("No run of the function has been measured", wait.EstimateBasis, StringComparison.Ordinal));

        // One run is over: now it is known how long they take.
        await Node.FinishAsync(Node.Running.First());
        await UntilAsync(async () => await TaskOf(function, "t59").Get(includeData: false) is { } last
            && await ExplainAsync(last) is { Rank: 57, EstimatedStart: { } start, EstimateBasis: var basis } && start > last.EnqueuedAt && basis.StartsWith("Mean of the last 1 runs", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_task_is_told_what_it_waits_for()
    {
        var none = await SubmitAsync(await FunctionAsync("fc.gpu.none.1", 1_024), "ok");
        await UntilReasonAsync(none, TaskWaitReason.NoCardOfType);
        var gang = await SubmitAsync(await FunctionAsync(T4, 4 * Card), "ok");
        await UntilReasonAsync(gang, TaskWaitReason.NoCardOfType);

        await Region.SetQuota("1001", 500, 1);
        var whole = await SubmitAsync(await FunctionAsync(T4, Card), "ok");
        var wait = await UntilReasonAsync(whole, TaskWaitReason.Quota);
        Assert.Equal((500, 1L), (wait.Missing.MilliCards, wait.Rank));
        await Region.SetQuota("1001", 30_000, 1);
        await UntilAsync(async () => (await whole.Get(includeData: false))!.Status is GpuTaskStatus.Succeeded);

        Assert.True(await Region.DrainNode(Node.Node, null));
        Assert.False(await Region.DrainNode("nobody", null));
        var drained = await SubmitAsync(await FunctionAsync(T4, Card), "ok");
        await UntilReasonAsync(drained, TaskWaitReason.NodeDrained);
        Assert.True(await Region.UndrainNode(Node.Node));
        await UntilAsync(async () => (await drained.Get(includeData: false))!.Status is GpuTaskStatus.Succeeded);

        Node.FailLaunches = new LaunchFailure(RunOutcome.EngineError, "The engine is away.");
        var failing = await FunctionAsync(T4, Card);
        var (first, second) = (await SubmitAsync(failing, "ok"), await SubmitAsync(failing, "ok"));
        await UntilReasonAsync(second, TaskWaitReason.LaunchBackoff);
        Node.FailLaunches = null;
        await UntilAsync(async () => (await first.Get(includeData: false))!.Status is GpuTaskStatus.Succeeded && (await second.Get(includeData: false))!.Status is GpuTaskStatus.Succeeded);

        Node.PullsForEver = true;
        var pulling = await SubmitAsync(await FunctionAsync(T4, Card), "ok");
        await UntilReasonAsync(pulling, TaskWaitReason.ImagePulling);
        Node.PullsForEver = false;
        await UntilAsync(async () => (await pulling.Get(includeData: false))!.Status is GpuTaskStatus.Succeeded);
    }

    [Fact]
    public async Task Launches_that_fail_together_are_one_failure()
    {
        Node.FailLaunches = new LaunchFailure(RunOutcome.EngineError, "The engine is away.");
        var function = await FunctionAsync(T4, Card / 8);
        var ids = Enumerable.Range(0, 10).Select(i => $"t{i}").ToArray();
        await cluster.Client.GetGrain<ITaskBatchGrain>(function).Submit(new TaskBatch([.. ids.Select(id => new NewTask(id, Submission("ok")))]));
        await UntilAsync(() => Task.FromResult(Node.LaunchCount >= ids.Length));
        Node.FailLaunches = null;

        // Ten in a row would put the next launch off for a minute.
        var since = Stopwatch.StartNew();
        foreach (var id in ids)
        {
            await UntilAsync(async () => (await TaskOf(function, id).Get(includeData: false))!.Status is GpuTaskStatus.Succeeded);
        }

        Assert.InRange(since.Elapsed, TimeSpan.Zero, TimeSpan.FromSeconds(40));
    }

    [Fact]
    public async Task A_drain_with_a_deadline_ends_the_run_which_begins_again_once_there_is_room()
    {
        var task = await SubmitAsync(await FunctionAsync(T4, Card), "hold");
        await UntilAsync(() => Task.FromResult(Node.Running.Count == 1));
        Assert.True(await Region.DrainNode(Node.Node, TimeSpan.FromDays(1)));
        await Task.Delay(100, TestContext.Current.CancellationToken);
        Assert.Single(Node.Running);
        Assert.True(await Region.DrainNode(Node.Node, TimeSpan.Zero));
        await UntilAsync(async () => (await task.Get(includeData: false)) is { Outcome: RunOutcome.Preempted, Retries: 0, PlatformFaults: 1 });
        await UntilReasonAsync(task, TaskWaitReason.NodeDrained);
        await Region.UndrainNode(Node.Node);
        await UntilAsync(() => Task.FromResult(Node.Running.Count == 1));
        await Node.FinishAsync(Node.Running.First());
        await UntilAsync(async () => (await task.Get(includeData: false))!.Status is GpuTaskStatus.Succeeded);
    }

    [Fact]
    public async Task Provisioned_instances_are_there_before_anything_waits_stay_when_idle_and_leave_when_no_longer_wanted()
    {
        var function = await FunctionAsync(T4, Card / 4);
        await SetCapacityAsync(function, new FunctionCapacity { Provision = new Dictionary<string, ProvisionConfig> { ["LATEST"] = new() { Plan = new InstancePlan(2, [], []) } } });
        await UntilAsync(async () => await Dispatcher(function).GetCapacity() is { ProvisionTarget: 2, Ready: 2, Error: "" });
        Assert.Equal(2, Node.InstanceCount);

        // Longer than idle instances stay.
        await Task.Delay(TimeSpan.FromSeconds(4), TestContext.Current.CancellationToken);
        Assert.Equal((2, 2), (Node.InstanceCount, Node.LaunchCount));
        Node.Reboot();
        await UntilAsync(async () => Node.LaunchCount == 4 && (await Dispatcher(function).GetCapacity()).Ready == 2);
        await SetCapacityAsync(function, FunctionCapacity.None);
        await UntilAsync(() => Task.FromResult(Node.InstanceCount == 0));
    }

    [Fact]
    public async Task Instances_that_an_alias_keeps_are_of_its_version_and_move_with_it()
    {
        var key = await FunctionAsync(T4, Card / 4);
        var function = cluster.Client.GetGrain<IFunctionGrain>(key);
        var one = (await function.PublishVersion("")).Version!.VersionId;
        var two = (await function.PublishVersion("")).Version!.VersionId;
        await function.SetAlias("prod", new FunctionAlias { VersionId = one }, (await function.Get())!.Revision);
        await SetCapacityAsync(key, new FunctionCapacity { Provision = new Dictionary<string, ProvisionConfig> { ["prod"] = new() { Plan = new InstancePlan(2, [], []) } } });
        await UntilAsync(async () => await Version(one).GetCapacityOf("prod") is { ProvisionTarget: 2, Ready: 2, Error: "" });
        await function.SetAlias("prod", new FunctionAlias { VersionId = two }, (await function.Get())!.Revision);
        await UntilAsync(async () => (await Version(two).GetCapacityOf("prod")).Ready == 2 && (await Version(one).GetStatus()).Instances.Count == 0);
        Assert.Equal(2, Node.InstanceCount);
        await function.SetAlias("prod", null, (await function.Get())!.Revision);
        await UntilAsync(() => Task.FromResult(Node.InstanceCount == 0));

        IDispatcherGrain Version(string id) => cluster.Client.GetGrain<IDispatcherGrain>($"{key}.{id}");
    }

    [Fact]
    public async Task A_task_of_a_disabled_function_is_told_so()
    {
        var function = await FunctionAsync(T4, Card);
        await cluster.Client.GetGrain<IFunctionGrain>(function).SetRestriction(new InvocationRestriction { Disabled = true, Reason = "maintenance" });
        await UntilReasonAsync(await SubmitAsync(function, "ok"), TaskWaitReason.FunctionDisabled);
    }

    [Fact]
    public async Task No_more_than_the_reserved_concurrency_run_at_once_and_the_rest_is_told_so()
    {
        var function = await FunctionAsync(T4, Card / 4);
        await SetCapacityAsync(function, new FunctionCapacity { ReservedConcurrency = 2 });
        var tasks = new List<ITaskGrain>();
        for (var i = 0; i < 4; i++)
        {
            tasks.Add(await SubmitAsync(function, "hold"));
        }

        await UntilAsync(() => Task.FromResult(Node.Running.Count == 2));
        foreach (var task in tasks)
        {
            if ((await task.Get(includeData: false))!.Status is GpuTaskStatus.Enqueued)
            {
                await UntilReasonAsync(task, TaskWaitReason.ConcurrencyLimit);
            }
        }

        Assert.Equal((2, 2), (Node.Running.Count, Node.InstanceCount));
        await SetCapacityAsync(function, FunctionCapacity.None);
        await UntilAsync(() => Task.FromResult(Node.Running.Count == 4));
    }

    [Fact]
    public async Task With_on_demand_off_only_the_least_instances_run()
    {
        var function = await FunctionAsync(T4, Card / 4);
        await SetCapacityAsync(function, new FunctionCapacity { Scaling = new Dictionary<string, ScalingConfig> { ["LATEST"] = new() { Plan = new InstancePlan(1, [], []), OnDemand = false } } });
        await SubmitAsync(function, "hold");
        await UntilAsync(() => Task.FromResult(Node.Running.Count == 1));
        await UntilReasonAsync(await SubmitAsync(function, "hold"), TaskWaitReason.OnDemandOff);
        Assert.Equal((1, 1), (Node.Running.Count, Node.InstanceCount));
        await Node.FinishAsync(Node.Running.First());
        await UntilAsync(() => Task.FromResult(Node.Running.Count == 1 && Node.Started.Count == 2));
        Assert.Equal(1, Node.LaunchCount);
    }

    private async Task SetCapacityAsync(string function, FunctionCapacity capacity)
    {
        var grain = cluster.Client.GetGrain<IFunctionGrain>(function);
        Assert.Equal(FunctionChange.Done, await grain.SetCapacity(capacity, (await grain.Get())!.Revision));
        Assert.Equal(FunctionChange.Conflict, await grain.SetCapacity(capacity, 0));
    }

    private IDispatcherGrain Dispatcher(string function) => cluster.Client.GetGrain<IDispatcherGrain>(function);

    private async Task<WaitView> UntilReasonAsync(ITaskGrain task, TaskWaitReason reason)
    {
        WaitView? wait = null;
        var limit = DateTime.UtcNow + TimeSpan.FromSeconds(60);
        while (DateTime.UtcNow < limit)
        {
            var now = (await task.Get(includeData: false))!;
            wait = await ExplainAsync(now);
            if (wait.Reason == reason && !now.Status.HoldsSlot())
            {
                return wait;
            }

            await Task.Delay(20);
        }

        throw new TimeoutException($"The task waits for {wait?.Reason}: {wait?.Detail}");
    }

    private Task<WaitView> ExplainAsync(TaskSnapshot task) =>
        cluster.Client.GetGrain<IDispatcherGrain>(task.Key.FunctionKey).Explain(new Ticket(task.Key.TaskId, task.Priority, task.EnqueuedAt));

    private async Task<string> FunctionAsync(string type, int gpuMiB)
    {
        var name = "f" + Guid.NewGuid().ToString("N")[..8];
        await cluster.Client.GetGrain<IFunctionGrain>($"1001/{name}").Create(new FunctionSpec
        {
            Name = name,
            Cpu = 1,
            MemoryMiB = 1024,
            Gpu = new GpuSpec(type, gpuMiB),
            TimeoutSeconds = 600,
            Container = new ContainerSpec { Image = "any:1" },
        });
        return $"1001/{name}";
    }

    private ITaskGrain TaskOf(string function, string id) => cluster.Client.GetGrain<ITaskGrain>($"{function}/{id}");

    private async Task<ITaskGrain> SubmitAsync(string function, string script)
    {
        var task = TaskOf(function, "t" + Guid.NewGuid().ToString("N")[..8]);
        Assert.Equal(SubmitOutcome.Accepted, await task.Submit(Submission(script)));
        return task;
    }

    private static TaskSubmission Submission(string script, int priority = 0) => new()
    {
        RequestId = Guid.NewGuid().ToString(),
        Payload = Encoding.UTF8.GetBytes(script),
        MaxRetryAttempts = 3,
        Priority = priority,
    };

    private static async Task UntilAsync(Func<Task<bool>> condition)
    {
        var limit = DateTime.UtcNow + TimeSpan.FromSeconds(60);
        while (!await condition())
        {
            Assert.True(DateTime.UtcNow < limit, "The condition did not come true in time.");
            await Task.Delay(20);
        }
    }
}
