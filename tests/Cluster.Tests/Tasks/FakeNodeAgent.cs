using System.Collections.Concurrent;
using System.Text;
using GpuTasks.Dispatch;
using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Tasks;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Orleans.Configuration;

namespace GpuTasks.Tests.Tasks;

/// <summary>
/// A node without containers: instances are entries in a table, runs are scripted by their payload. What it shares with the real
/// agent is the protocol with dispatchers, tasks and the region.
/// </summary>
/// <remarks>
/// Payloads: <c>ok</c>; <c>fail</c>; <c>fail-until N</c> (succeeds at attempt N); <c>hold</c> (runs until cancelled or finished by the test);
/// <c>stubborn</c> (runs on when cancelled, until finished by the test).
/// </remarks>
internal sealed class FakeNodeAgent(
    IGrainFactory grains,
    Microsoft.Extensions.Options.IOptions<SiloOptions> silo,
    [FromKeyedServices(TimeProviderNames.Grains)] TimeProvider clock) : BackgroundService, INodeAgent
{
    private readonly ConcurrentDictionary<string, Instance> instances = new();
    private readonly ConcurrentDictionary<string, Run> runs = new();
    private readonly ConcurrentDictionary<string, bool> overRuns = new();
    private long version;

    public string Node => silo.Value.SiloName;

    public int CardMiB { get; set; } = 16_384;

    public int Cards { get; set; } = 2;

    public LaunchFailure? FailLaunches { get; set; }

    /// <summary>Such instances were ready before they failed, and nobody heard of it.</summary>
    public bool FailsOnceReady { get; set; }

    /// <summary>What becomes of the runs of an instance that is stopped by force.</summary>
    public RunOutcome ForcedOutcome { get; set; } = RunOutcome.Cancelled;

    /// <summary>True leaves new instances in the state of fetching their image.</summary>
    public bool PullsForEver { get; set; }

    /// <summary>True while it is cut off: it neither reports nor hears orders, and its runs go on.</summary>
    public bool IsCutOff { get; set; }

    /// <summary>Throws away the next so many run orders after acting on them: the caller sees a fault, the run goes on.</summary>
    public int LoseAnswers;

    /// <summary>Answers a run order instead of the node; null leaves it to the node.</summary>
    public Func<RunOrder, Task<StartRunOutcome>>? OnStart { get; set; }

    public ConcurrentQueue<string> Started { get; } = new();

    /// <summary>What the instance of each run was launched for.</summary>
    public ConcurrentDictionary<string, LaunchOrder> Definitions { get; } = new();

    public IReadOnlyCollection<string> Running => [.. runs.Keys];

    public int InstanceCount => instances.Count;

    public int LaunchCount;

    public async Task<LaunchOutcome> LaunchAsync(LaunchOrder order, CancellationToken cancellationToken)
    {
        MustBeHeard();
        var instance = new Instance(order, Interlocked.Increment(ref version), PullsForEver);
        if (!instances.TryAdd(order.Lease.InstanceId, instance))
        {
            return LaunchOutcome.Accepted;
        }

        Interlocked.Increment(ref LaunchCount);
        if (FailLaunches is { } failure)
        {
            await TellAsync(instance, InstanceState.Gone, failure);
            RemoveAsync(order.Lease.InstanceId).Ignore();
        }
        else
        {
            await TellAsync(instance, instance.Pulls && PullsForEver ? InstanceState.Creating : InstanceState.Ready);
        }

        return LaunchOutcome.Accepted;
    }

    public async Task StopInstanceAsync(string instanceId, bool force, CancellationToken cancellationToken)
    {
        MustBeHeard();
        if (instances.TryGetValue(instanceId, out var instance))
        {
            foreach (var run in runs.Values.Where(run => run.Order.InstanceId == instanceId))
            {
                if (!force)
                {
                    return;
                }

                await EndAsync(run, ForcedOutcome);
            }

            await TellAsync(instance, InstanceState.Gone);
        }

        RemoveAsync(instanceId).Ignore();
    }

    public Task<StartRunOutcome> StartRunAsync(RunOrder order, CancellationToken cancellationToken)
    {
        MustBeHeard();
        if (OnStart is { } answer)
        {
            return answer(order);
        }

        if (overRuns.ContainsKey(order.RunId) || !instances.TryGetValue(order.InstanceId, out var instance))
        {
            return Task.FromResult(StartRunOutcome.InstanceGone);
        }

        var run = new Run(order);
        if (runs.TryAdd(order.RunId, run))
        {
            Definitions[order.RunId] = instance.Order;
            Started.Enqueue(order.RunId);
            PlayAsync(run).Ignore();
        }

        if (Interlocked.Decrement(ref LoseAnswers) >= 0)
        {
            throw new TimeoutException("The answer was lost on its way.");
        }

        return Task.FromResult(StartRunOutcome.Started);
    }

    public async Task<bool> CancelRunAsync(string instanceId, string runId, CancellationToken cancellationToken)
    {
        MustBeHeard();
        if (!runs.TryGetValue(runId, out var run))
        {
            overRuns[runId] = true;
            return false;
        }

        if (run.Script != "stubborn")
        {
            EndAsync(run, RunOutcome.Cancelled).Ignore();
        }

        await Task.CompletedTask;
        return true;
    }

    public Task<RunReport?> AwaitRunAsync(string runId, TimeSpan wait, CancellationToken cancellationToken) => Task.FromResult<RunReport?>(null);

    /// <summary>Tells back what it was asked.</summary>
    public Task<AnswerPart> ReadAnswerAsync(string instanceId, string runId, long from, TimeSpan wait, CancellationToken cancellationToken) => Task.FromResult(new AnswerPart
    {
        Head = new AnswerHead { StatusCode = 206, Headers = [new HttpField(instanceId, runId)] },
        Data = [(byte)from],
    });

    public Task<BodyReceipt> SendBodyAsync(string instanceId, string runId, BodyPart part, TimeSpan wait, CancellationToken cancellationToken) =>
        Task.FromResult(new BodyReceipt(part.From + part.Data.Length, part.Last));

    public Task<LogChunk?> ReadLogAsync(TaskKey task, int attempt, long cursor, int limit, CancellationToken cancellationToken) => Task.FromResult<LogChunk?>(null);

    /// <summary>Lets a held run end.</summary>
    public Task FinishAsync(string runId, RunOutcome outcome = RunOutcome.Succeeded) => EndAsync(runs[runId], outcome);

    /// <summary>Drops everything without a word, as a reboot does.</summary>
    public void Reboot()
    {
        instances.Clear();
        foreach (var run in runs.Keys)
        {
            overRuns[run] = true;
        }

        runs.Clear();
        BootId = Guid.NewGuid().ToString();
    }

    public string BootId { get; private set; } = Guid.NewGuid().ToString();

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                MustBeHeard();
                await grains.GetGrain<IRegionQuotaGrain>("local-1").Report(new NodeReport
                {
                    Node = Node,
                    BootId = BootId,
                    CpuMilli = 64_000,
                    MemoryMiB = 262_144,
                    DiskMiB = 1_048_576,
                    Cards = [.. Enumerable.Range(0, Cards).Select(i => new CardReport
                    {
                        Uuid = $"SIM-{Node}-{i}",
                        Type = "fc.gpu.tesla.1",
                        MemoryMiB = CardMiB,
                        Simulated = true,
                    })],
                    Instances = [.. instances.Keys],
                    Adopted = true,
                }, stoppingToken);
                foreach (var instance in instances.Values)
                {
                    await TellAsync(instance, instance.Pulls && PullsForEver ? InstanceState.Creating : InstanceState.Ready);
                }
            }
            catch (Exception exception) when (exception is not OperationCanceledException)
            {
                // The cluster is coming up or going down; the next report makes it good.
            }

            await Task.Delay(TimeSpan.FromMilliseconds(200), clock, stoppingToken);
        }
    }

    private void MustBeHeard()
    {
        if (IsCutOff)
        {
            throw new NodeUnavailableException(Node);
        }
    }

    private async Task PlayAsync(Run run)
    {
        var words = run.Script.Split(' ');
        await Task.Yield();
        switch (words[0])
        {
            case "ok":
                await EndAsync(run, RunOutcome.Succeeded);
                break;
            case "long":
                await EndAsync(run, RunOutcome.Succeeded, new string('€', int.Parse(words[1])));
                break;
            case "fail":
                await EndAsync(run, RunOutcome.FunctionError);
                break;
            case "fail-until":
                await EndAsync(run, run.Order.Attempt < int.Parse(words[1]) ? RunOutcome.Crashed : RunOutcome.Succeeded);
                break;
        }
    }

    private async Task EndAsync(Run run, RunOutcome outcome, string? answer = null)
    {
        if (Interlocked.Exchange(ref run.Ended, 1) != 0)
        {
            return;
        }

        var order = run.Order;
        var report = new RunReport
        {
            RunId = order.RunId,
            Task = order.Task,
            Attempt = order.Attempt,
            InstanceId = order.InstanceId,
            Node = Node,
            Outcome = outcome,
            Message = outcome is RunOutcome.Succeeded ? "" : outcome.ToString(),
            Response = Encoding.UTF8.GetBytes(answer ?? $"answer of {order.RunId}"),
            Duration = TimeSpan.FromMilliseconds(5),
        };
        while (true)
        {
            try
            {
                MustBeHeard();
                await grains.GetGrain<ITaskGrain>(order.Task!.Value.ToString()).Report(report);
                break;
            }
            catch (Exception)
            {
                await Task.Delay(100);
            }
        }

        overRuns[order.RunId] = true;
        runs.TryRemove(order.RunId, out _);
        if (instances.TryGetValue(order.InstanceId, out var instance))
        {
            await DispatcherOf(instance).Release(order.InstanceId, order.RunId);
        }
    }

    private async Task RemoveAsync(string instanceId)
    {
        instances.TryRemove(instanceId, out _);
        await Task.Delay(50);
        await grains.GetGrain<IRegionQuotaGrain>("local-1").Release(Node, instanceId);
    }

    private IDispatcherGrain DispatcherOf(Instance instance) =>
        grains.GetGrain<IDispatcherGrain>($"{instance.Order.Lease.Account}/{instance.Order.Lease.Function}");

    private Task TellAsync(Instance instance, InstanceState state, LaunchFailure? failure = null)
    {
        var lease = instance.Order.Lease;
        return DispatcherOf(instance).InstanceChanged(new InstanceStatus
        {
            InstanceId = lease.InstanceId,
            Node = Node,
            State = state,
            Revision = instance.Order.Revision,
            Runs = [.. runs.Values.Where(run => run.Order.InstanceId == lease.InstanceId).Select(run => run.Order.RunId)],
            Failure = failure,
            WasReady = failure is null ? state is InstanceState.Ready : FailsOnceReady,
            PullingImage = state is InstanceState.Creating,
            ResolvedImage = state is InstanceState.Ready ? ResolvedImage : null,
            Version = Interlocked.Increment(ref version),
        });
    }

    /// <summary>What the node finds any image to be by digest.</summary>
    public string? ResolvedImage { get; set; }

    private sealed record Instance(LaunchOrder Order, long Version, bool Pulls);

    private sealed record Run(RunOrder Order)
    {
        public int Ended;

        public string Script { get; } = Encoding.UTF8.GetString(Order.Payload);
    }
}
