using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Threading.Channels;
using GpuTasks.Dispatch;
using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Tasks;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;
using Orleans.Configuration;

namespace GpuTasks.Benchmarks.Platform;

/// <summary>
/// A node whose runs end at once, so that what is measured is the platform without containers. It has no cards: functions
/// that need one wait for ever, those that need none run. Reports are written before a run is forgotten, as the real one does.
/// </summary>
internal sealed class NoopAgent(IGrainFactory grains, IOptions<SiloOptions> silo) : BackgroundService, INodeAgent
{
    private const string NoStreams = "Runs of the no-op runner do not stream; its instances say so, and nobody asks.";
    private readonly ConcurrentDictionary<string, LaunchOrder> instances = new();
    private readonly ConcurrentDictionary<string, RunOrder> runs = new();
    private readonly Channel<RunOrder> ending = Channel.CreateUnbounded<RunOrder>();
    private readonly string boot = Guid.NewGuid().ToString();
    private long version;
    private long ended;

    /// <summary>Runs whose end is reported and durable.</summary>
    public long Ended => Interlocked.Read(ref ended);

    /// <summary>Time from the moment in a run's event to its start here, in microseconds.</summary>
    public ConcurrentQueue<double> Starts { get; } = new();

    private string Node => silo.Value.SiloName;

    public async Task<LaunchOutcome> LaunchAsync(LaunchOrder order, CancellationToken cancellationToken)
    {
        if (instances.TryAdd(order.Lease.InstanceId, order))
        {
            await TellAsync(order, InstanceState.Ready);
        }

        return LaunchOutcome.Accepted;
    }

    public async Task StopInstanceAsync(string instanceId, bool force, CancellationToken cancellationToken)
    {
        if (!instances.TryRemove(instanceId, out var order))
        {
            return;
        }

        await TellAsync(order, InstanceState.Gone);
        ReleaseAsync().Ignore();

        // After the dispatcher has heard, which is one of the callers.
        async Task ReleaseAsync()
        {
            await Task.Delay(50, CancellationToken.None);
            await grains.Get<IRegionQuotaGrain>("local-1").Release(Node, instanceId, CancellationToken.None);
        }
    }

    public Task<StartRunOutcome> StartRunAsync(RunOrder order, CancellationToken cancellationToken)
    {
        if (!instances.ContainsKey(order.InstanceId))
        {
            return Task.FromResult(StartRunOutcome.InstanceGone);
        }

        if (runs.TryAdd(order.RunId, order))
        {
            if (order.Payload is [(byte)'@', .. var stamp] && long.TryParse(Encoding.ASCII.GetString(stamp), CultureInfo.InvariantCulture, out var sent))
            {
                Starts.Enqueue(Stopwatch.GetElapsedTime(sent).TotalMicroseconds);
            }

            ending.Writer.TryWrite(order);
        }

        return Task.FromResult(StartRunOutcome.Started);
    }

    public Task<bool> CancelRunAsync(string instanceId, string runId, CancellationToken cancellationToken) => Task.FromResult(runs.ContainsKey(runId));

    public Task<RunReport?> AwaitRunAsync(string runId, TimeSpan wait, CancellationToken cancellationToken) => Task.FromResult<RunReport?>(null);

    public Task<AnswerPart> ReadAnswerAsync(string instanceId, string runId, long from, TimeSpan wait, CancellationToken cancellationToken) =>
        throw new NotSupportedException(NoStreams);

    public Task<BodyReceipt> SendBodyAsync(string instanceId, string runId, BodyPart part, TimeSpan wait, CancellationToken cancellationToken) =>
        throw new NotSupportedException(NoStreams);

    public Task<LogChunk?> ReadLogAsync(TaskKey task, int attempt, long cursor, int limit, CancellationToken cancellationToken) => Task.FromResult<LogChunk?>(null);

    protected override Task ExecuteAsync(CancellationToken stoppingToken) => Task.WhenAll([ReportAsync(stoppingToken), .. Enumerable.Range(0, 512).Select(_ => EndAsync(stoppingToken))]);

    private async Task ReportAsync(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                await grains.Get<IRegionQuotaGrain>("local-1").Report(
                    new NodeReport
                    {
                        Node = Node,
                        BootId = boot,
                        CpuMilli = 4_000,
                        MemoryMiB = 262_144,
                        DiskMiB = 1_048_576,
                        Cards = [],
                        Instances = [.. instances.Keys],
                        Adopted = true,
                    },
                    stop);
                foreach (var order in instances.Values)
                {
                    await TellAsync(order, InstanceState.Ready);
                }
            }
            catch (Exception e) when (e is OrleansException or TimeoutException)
            {
                // The silo is coming up or going down.
            }

            await Task.Delay(1_000, stop);
        }
    }

    private async Task EndAsync(CancellationToken stop)
    {
        await foreach (var order in ending.Reader.ReadAllAsync(stop))
        {
            await grains.Get<ITaskGrain>(order.Task!.Value.ToString()).Report(
                new RunReport
                {
                    RunId = order.RunId,
                    Task = order.Task,
                    Attempt = order.Attempt,
                    InstanceId = order.InstanceId,
                    Node = Node,
                    Outcome = RunOutcome.Succeeded,
                    StatusCode = 200,
                    Response = "ok"u8.ToArray(),
                },
                CancellationToken.None);
            runs.TryRemove(order.RunId, out _);
            Interlocked.Increment(ref ended);
        }
    }

    private Task TellAsync(LaunchOrder order, InstanceState state)
    {
        var lease = order.Lease;
        return grains.Get<IDispatcherGrain>($"{lease.Account}/{lease.Function}").InstanceChanged(new InstanceStatus
        {
            InstanceId = lease.InstanceId,
            Node = Node,
            State = state,
            Revision = order.Revision,
            Runs = [.. runs.Values.Where(run => run.InstanceId == lease.InstanceId).Select(run => run.RunId)],
            Version = Interlocked.Increment(ref version),
        });
    }
}
