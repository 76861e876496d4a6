using System.Text;
using GpuTasks.Dispatch;
using GpuTasks.Functions;
using GpuTasks.Hosting;
using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Simulation;
using GpuTasks.Storage;
using GpuTasks.Tasks;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Time.Testing;
using Orleans.TestingHost;

namespace GpuTasks.Tests.Tasks;

/// <summary>Runs whose node is silent: what is shown, what is proof, and what no clock may do to them.</summary>
public sealed class LostNodeTests : IAsyncLifetime
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan LostTimeout = TimeSpan.FromSeconds(100);
    private readonly string folder = Directory.CreateTempSubdirectory("gputasks-lost-").FullName;
    private readonly FakeTimeProvider machine = new(DateTimeOffset.UtcNow);
    private readonly SteppedClock wall;
    private InProcessTestCluster cluster = null!;

    public LostNodeTests() => wall = new SteppedClock(machine);

    private FakeNodeAgent Node => (FakeNodeAgent)cluster.Silos[0].ServiceProvider.GetRequiredService<INodeAgent>();

    private IRegionQuotaGrain Region => cluster.Client.GetGrain<IRegionQuotaGrain>("local-1");

    public async ValueTask InitializeAsync()
    {
        var builder = new InProcessTestClusterBuilder(1);
        builder.ConfigureSilo((_, silo) =>
        {
            silo.AddGpuTasksStore(new StoreOptions { Path = Path.Combine(folder, "store.db") });
            silo.AddGpuTasksGrains(new ConfigurationBuilder().Build());
            silo.Services.AddKeyedSingleton<TimeProvider>(TimeProviderNames.Grains, new SteadyClock(wall));
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
    public async Task A_run_on_a_silent_node_is_given_up_only_when_its_instance_must_have_ended_itself()
    {
        var task = await RunAsync(LostTimeout);
        Node.IsCutOff = true;
        var heardAt = wall.GetUtcNow() - (await Region.GetContact(Node.Node, "any")).Silence;
        var shown = await PassUntilAsync(task, seen => seen.ContactLostSince is not null);
        Assert.Equal(GpuTaskStatus.Running, shown.Status);

        // Nothing is concluded from silence alone, nor from any second before the instance has ended itself and had its grace.
        await PassAsync(LostTimeout + TimeSpan.FromSeconds(50) - (wall.GetUtcNow() - heardAt));
        Assert.Equal((GpuTaskStatus.Running, 1), Standing(await SeenAsync(task)));

        var lost = await PassUntilAsync(task, seen => seen.Status is not GpuTaskStatus.Running);
        Assert.InRange(wall.GetUtcNow() - heardAt, LostTimeout + TimeSpan.FromSeconds(60), LostTimeout + TimeSpan.FromSeconds(120));
        Assert.Equal((RunOutcome.NodeLost, 1, 0), (lost.Outcome, lost.PlatformFaults, lost.Retries));
        Assert.Null(lost.ContactLostSince);

        // It comes back without the instance, which has ended itself.
        Node.Reboot();
        Node.IsCutOff = false;
        await PassUntilAsync(task, _ => Node.Running.Contains("r.2"));

        // The first attempt's late word touches the second no more.
        await task.Report(new RunReport { RunId = "r.1", Task = lost.Key, Attempt = 1, InstanceId = "old", Node = Node.Node, Outcome = RunOutcome.Succeeded, Message = "", Response = [], Duration = TimeSpan.Zero });
        Assert.Equal((GpuTaskStatus.Running, 2), Standing(await SeenAsync(task)));
        await Node.FinishAsync("r.2");
        Assert.Equal((GpuTaskStatus.Succeeded, 2), Standing(await PassUntilAsync(task, seen => seen.Status.IsFinal())));
    }

    [Fact]
    public async Task Without_a_timeout_a_run_on_a_silent_node_waits_for_ever_and_for_the_operators_word()
    {
        var task = await RunAsync(TimeSpan.Zero);
        Node.IsCutOff = true;
        await PassUntilAsync(task, seen => seen.ContactLostSince is not null);
        for (var n = 0; n < 20; n++)
        {
            await PassAsync(TimeSpan.FromHours(1), TimeSpan.FromMinutes(20));
        }

        Assert.Equal((GpuTaskStatus.Running, 1), Standing(await SeenAsync(task)));
        Assert.Equal(DeclareLostOutcome.Done, await Region.DeclareLost(Node.Node));
        var lost = await PassUntilAsync(task, seen => seen.Status is not GpuTaskStatus.Running);
        Assert.Equal(RunOutcome.NodeLost, lost.Outcome);
    }

    [Fact]
    public async Task A_task_that_is_stopped_on_a_silent_node_is_stopping_until_its_instance_must_have_ended_itself()
    {
        var task = await RunAsync(LostTimeout);
        Node.IsCutOff = true;
        Assert.Equal(StopOutcome.Accepted, await task.Stop("asked"));
        await PassAsync(LostTimeout + TimeSpan.FromSeconds(40));
        var seen = await SeenAsync(task);
        Assert.Equal(GpuTaskStatus.Stopping, seen.Status);
        Assert.NotNull(seen.ContactLostSince);
        await PassUntilAsync(task, later => later.Status is GpuTaskStatus.Stopped);
    }

    [Fact]
    public async Task A_stop_reaches_its_run_once_the_node_is_back()
    {
        var task = await RunAsync(LostTimeout);
        Node.IsCutOff = true;
        Assert.Equal(StopOutcome.Accepted, await task.Stop("asked"));
        await PassAsync(TimeSpan.FromSeconds(30));
        Assert.Equal(GpuTaskStatus.Stopping, (await SeenAsync(task)).Status);
        var backAt = machine.GetTimestamp();
        Node.IsCutOff = false;
        Assert.Equal(GpuTaskStatus.Stopped, (await PassUntilAsync(task, seen => seen.Status.IsFinal())).Status);
        Assert.InRange(machine.GetElapsedTime(backAt), TimeSpan.Zero, TimeSpan.FromSeconds(10));
    }

    [Fact]
    public async Task A_run_that_ended_before_any_stop_could_reach_it_keeps_its_answer()
    {
        var task = await RunAsync(LostTimeout);
        Node.IsCutOff = true;
        Assert.Equal(StopOutcome.Accepted, await task.Stop("asked"));
        await PassAsync(TimeSpan.FromSeconds(30));
        var finishing = Node.FinishAsync("r.1");
        await PassAsync(TimeSpan.FromSeconds(10));
        Assert.Equal(GpuTaskStatus.Stopping, (await SeenAsync(task)).Status);
        Node.IsCutOff = false;
        Assert.Equal(GpuTaskStatus.Succeeded, (await PassUntilAsync(task, seen => seen.Status.IsFinal())).Status);
        await finishing;
    }

    [Fact]
    public async Task A_node_that_comes_back_in_time_has_lost_nothing()
    {
        var task = await RunAsync(LostTimeout);
        Node.IsCutOff = true;
        await PassUntilAsync(task, seen => seen.ContactLostSince is not null);
        await PassAsync(TimeSpan.FromSeconds(60));
        Node.IsCutOff = false;
        var back = await PassUntilAsync(task, seen => seen.ContactLostSince is null);
        Assert.Equal((GpuTaskStatus.Running, 1), Standing(back));
        await Node.FinishAsync("r.1");
        Assert.Equal((GpuTaskStatus.Succeeded, 1), Standing(await PassUntilAsync(task, seen => seen.Status.IsFinal())));
        Assert.Single(Node.Started);
    }

    [Fact]
    public async Task A_run_that_is_found_elsewhere_while_it_is_ordered_is_not_given_up_for_the_order_that_failed()
    {
        var orders = new List<string>();
        Node.OnStart = async order =>
        {
            lock (orders)
            {
                orders.Add($"{order.RunId} {order.InstanceId}");
                if (orders.Count > 1)
                {
                    return StartRunOutcome.Started;
                }
            }

            // As after a restored backup: no lease of where it is is known yet.
            var taken = await cluster.Client.GetGrain<ITaskGrain>(order.Task!.Value.ToString()).TakeUp(order.Attempt, new SlotAssignment
            {
                SlotId = order.RunId, Node = Node.Node, InstanceId = "elsewhere", RunLimit = order.Limit, Revision = 1,
            });
            throw new TimeoutException($"It runs elsewhere; its task knows: {taken}.");
        };
        var task = await RunAsync(LostTimeout, until: () => orders.Count > 1);
        Assert.Equal((GpuTaskStatus.Running, 1), Standing(await SeenAsync(task)));
        Assert.Equal("r.1 elsewhere", orders[1]);
        Assert.NotEqual(orders[0], orders[1]);
    }

    [Fact]
    public async Task A_run_that_ended_in_time_keeps_its_answer_though_its_node_was_away_past_the_limit()
    {
        var overdue = await RunAsync(TimeSpan.Zero, limit: TimeSpan.FromMinutes(1));
        var task = await SubmitAsync("f", "late", "stubborn");
        await PassUntilAsync(task, _ => Node.Running.Contains("late.1"));
        Node.IsCutOff = true;
        await PassAsync(TimeSpan.FromMinutes(3));
        Node.IsCutOff = false;

        // The one that can be cancelled shows that both were taken for overdue.
        var over = await PassUntilAsync(overdue, seen => seen.Outcome is not null);
        Assert.Equal(RunOutcome.TimedOut, over.Outcome);
        await Node.FinishAsync("late.1");
        Assert.Equal((GpuTaskStatus.Succeeded, 1), Standing(await PassUntilAsync(task, seen => seen.Status.IsFinal())));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(-1)]
    public async Task A_step_of_the_wall_clock_ends_no_run_loses_no_node_and_holds_up_no_queue(int hours)
    {
        var task = await RunAsync(LostTimeout, limit: TimeSpan.FromMinutes(3));
        await PassAsync(TimeSpan.FromSeconds(40));
        wall.Step = TimeSpan.FromHours(hours);
        await PassAsync(TimeSpan.FromSeconds(90));
        Assert.Equal((GpuTaskStatus.Running, 1), Standing(await SeenAsync(task)));
        await PassAsync(TimeSpan.FromSeconds(5), TimeSpan.FromMilliseconds(200));
        Assert.True(Assert.Single(await Region.GetNodes()).Reachable);

        // A pause between attempts is as long as ever.
        var flaky = await SubmitAsync(task.GetPrimaryKeyString().Split('/')[1], "flaky", "fail-until 2");
        var began = machine.GetTimestamp();
        await PassUntilAsync(flaky, seen => seen.Status is GpuTaskStatus.Succeeded);
        Assert.InRange(machine.GetElapsedTime(began), TimeSpan.Zero, TimeSpan.FromMinutes(5));

        // And so is the limit: a run that its node does not end is ended by the task, neither sooner nor an hour late.
        var over = await PassUntilAsync(task, seen => seen.Status is not GpuTaskStatus.Running, TimeSpan.FromMinutes(6));
        Assert.Equal(RunOutcome.TimedOut, over.Outcome);
    }

    private static (GpuTaskStatus Status, int Attempt) Standing(TaskSnapshot task) => (task.Status, task.Attempt);

    private static async Task<TaskSnapshot> SeenAsync(ITaskGrain task) => (await task.Get(includeData: false))!;

    /// <summary>Lets time pass, in steps that leave everybody time to act.</summary>
    private async Task PassAsync(TimeSpan time, TimeSpan? step = null)
    {
        var by = step ?? TimeSpan.FromSeconds(5);
        for (var passed = TimeSpan.Zero; passed < time; passed += by)
        {
            machine.Advance(by < time - passed ? by : time - passed);
            await System.Threading.Tasks.Task.Delay(20);
        }
    }

    /// <summary>Lets time pass until a task stands as it should.</summary>
    private async Task<TaskSnapshot> PassUntilAsync(ITaskGrain task, Func<TaskSnapshot, bool> condition, TimeSpan? atMost = null)
    {
        var limit = DateTime.UtcNow + Patience;
        var began = machine.GetTimestamp();
        while (true)
        {
            var seen = await SeenAsync(task);
            if (condition(seen))
            {
                return seen;
            }

            Assert.True(DateTime.UtcNow < limit && (atMost is null || machine.GetElapsedTime(began) < atMost), $"It is {seen.Status} since {seen.Events[^1].At}, now {wall.GetUtcNow()}.");
            await PassAsync(TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(1));
        }
    }

    private async Task<ITaskGrain> RunAsync(TimeSpan nodeLostTimeout, TimeSpan? limit = null, Func<bool>? until = null)
    {
        const string Name = "f";
        var created = await cluster.Client.GetGrain<IFunctionGrain>($"1001/{Name}").Create(new FunctionSpec
        {
            Name = Name,
            Cpu = 1,
            MemoryMiB = 1024,
            Gpu = new GpuSpec("fc.gpu.tesla.1", 16_384),
            TimeoutSeconds = (int)(limit ?? TimeSpan.FromHours(24)).TotalSeconds,
            NodeLostTimeoutSeconds = (int)nodeLostTimeout.TotalSeconds,
            Container = new ContainerSpec { Image = "any:1" },
        });
        Assert.Equal(FunctionChange.Done, created);
        var task = await SubmitAsync(Name, "r", "hold");
        await PassUntilAsync(task, _ => until?.Invoke() ?? Node.Running.Contains("r.1"));
        return task;
    }

    private async Task<ITaskGrain> SubmitAsync(string function, string id, string script)
    {
        var task = cluster.Client.GetGrain<ITaskGrain>($"1001/{function}/{id}");
        Assert.Equal(SubmitOutcome.Accepted, await task.Submit(new TaskSubmission { RequestId = Guid.NewGuid().ToString(), Payload = Encoding.UTF8.GetBytes(script), MaxRetryAttempts = 3 }));
        return task;
    }
}
