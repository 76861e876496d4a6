using System.Collections.Concurrent;
using System.Text;
using System.Text.Json;
using GpuTasks.Cards;
using GpuTasks.Containers;
using GpuTasks.Functions;
using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Tasks;
using Microsoft.Extensions.Logging;

namespace GpuTasks.Tests.Containers;

/// <summary>Region, dispatchers and tasks as the agent sees them: it hands out leases and notes what it is told.</summary>
internal sealed class FakePlatform(string node) : INodeReports
{
    private readonly Lock gate = new();
    private readonly Dictionary<string, Lease> leases = new(StringComparer.Ordinal);
    private long epoch;

    public ConcurrentQueue<RunReport> Runs { get; } = new();

    public ConcurrentQueue<InstanceStatus> Statuses { get; } = new();

    public ConcurrentQueue<(TaskKey Task, int Attempt, string Instance)> TakenUp { get; } = new();

    public ConcurrentQueue<string> FreedSlots { get; } = new();

    public ConcurrentQueue<string> Released { get; } = new();

    public NodeReport? LastReport { get; private set; }

    public int Reports { get; private set; }

    /// <summary>How often a run's end is still refused.</summary>
    public int RefuseRuns { get; set; }

    /// <summary>A task that the store does not have.</summary>
    public TaskKey? UnknownTask { get; set; }

    /// <summary>How often a release is still refused.</summary>
    public int RefuseReleases { get; set; }

    public IReadOnlyCollection<string> Leases
    {
        get
        {
            lock (gate)
            {
                return [.. leases.Keys];
            }
        }
    }

    public long Epoch
    {
        get
        {
            lock (gate)
            {
                return epoch;
            }
        }
    }

    public Lease Grant(string instanceId, params CardShare[] cards)
    {
        lock (gate)
        {
            return leases[instanceId] = new Lease
            {
                InstanceId = instanceId,
                Account = "1001",
                Function = "echo",
                Node = node,
                Cards = cards,
                NodeEpoch = ++epoch,
            };
        }
    }

    /// <summary>Forgets everything, as a store does that is restored from a backup of before.</summary>
    public void SetBack()
    {
        lock (gate)
        {
            leases.Clear();
            epoch = 0;
        }
    }

    public void Reclaim(string instanceId)
    {
        lock (gate)
        {
            leases.Remove(instanceId);
            epoch++;
        }
    }

    public Task InstanceChangedAsync(string account, string function, InstanceStatus status)
    {
        Statuses.Enqueue(status);
        return Task.CompletedTask;
    }

    public Task RunEndedAsync(RunReport report)
    {
        lock (gate)
        {
            if (RefuseRuns > 0)
            {
                RefuseRuns--;
                throw new TimeoutException("The task grain is away.");
            }

            if (UnknownTask == report.Task)
            {
                throw new UnknownTaskException(report.Task.ToString()!);
            }
        }

        Runs.Enqueue(report);
        return Task.CompletedTask;
    }

    public Task<bool> TakeUpAsync(TaskKey task, int attempt, GpuTasks.Dispatch.SlotAssignment slot)
    {
        TakenUp.Enqueue((task, attempt, slot.InstanceId));
        return Task.FromResult(true);
    }

    public Task SlotFreeAsync(string account, string function, string instanceId, string runId)
    {
        FreedSlots.Enqueue(runId);
        return Task.CompletedTask;
    }

    public Task<NodeDirective> ReportAsync(NodeReport report)
    {
        lock (gate)
        {
            LastReport = report;
            Reports++;
            if (report.NodeEpoch > epoch && report.Held.Count == report.Instances.Count)
            {
                foreach (var lease in report.Held)
                {
                    leases.TryAdd(lease.InstanceId, lease with { TakenOver = true });
                }

                epoch = report.NodeEpoch + 1;
            }

            return Task.FromResult(new NodeDirective([.. leases.Values], epoch));
        }
    }

    public Task ReleaseAsync(string instanceId)
    {
        lock (gate)
        {
            if (RefuseReleases > 0)
            {
                RefuseReleases--;
                throw new TimeoutException("The quota grain is away.");
            }

            leases.Remove(instanceId);
            epoch++;
        }

        Released.Enqueue(instanceId);
        return Task.CompletedTask;
    }

    public InstanceStatus? Latest(string instanceId) => Statuses.Where(status => status.InstanceId == instanceId).MaxBy(status => status.Version);
}

/// <summary>A node agent over an engine, with a platform around it that is a fake.</summary>
internal sealed class AgentHarness : IAsyncDisposable
{
    private readonly TestFolder folder = new();
    private readonly ILoggerFactory loggers;
    private readonly bool ownsEngine;
    private NodeAgent? agent;
    private int lastTask;

    private AgentHarness(IContainerEngine engine, bool ownsEngine, Action<NodeOptions>? change, ICardSource? cards = null)
    {
        Engine = engine;
        this.ownsEngine = ownsEngine;
        var name = $"n{Guid.NewGuid():N}"[..12];
        Platform = new FakePlatform(name);
        Options = new NodeOptions
        {
            Name = name,
            DataDirectory = Path.Combine(folder.Path, "data"),
            RelayPath = TestDocker.Relay.Length > 0 ? TestDocker.Relay : "/bin/true",
            Cards = "fc.gpu.tesla.1:16384x2",
            StopGrace = TimeSpan.FromSeconds(1),
            ReportPeriod = TimeSpan.FromMilliseconds(200),
            SweepPeriod = TimeSpan.FromMilliseconds(300),
            OrphanGrace = TimeSpan.FromMilliseconds(300),
            UnusedLeaseGrace = TimeSpan.FromSeconds(2),
        };
        change?.Invoke(Options);
        loggers = LoggerFactory.Create(builder => builder.SetMinimumLevel(LogLevel.Information).AddProvider(new TestOutputLogs(TestContext.Current.TestOutputHelper)));
        Cards = cards ?? new SimulatedCards(name, Options.Cards);
    }

    public IContainerEngine Engine { get; }

    public NodeOptions Options { get; }

    public FakePlatform Platform { get; }

    /// <summary>Clock of its agents.</summary>
    public TimeProvider Clock { get; init; } = TimeProvider.System;

    public ICardSource Cards { get; }

    public NodeAgent Agent => agent ?? throw new InvalidOperationException("The agent is not started.");

    public static CancellationToken Token => TestContext.Current.CancellationToken;

    public static async Task<AgentHarness> OnFakeAsync(FakeEngine engine, Action<NodeOptions>? change = null, TimeProvider? clock = null)
    {
        var harness = new AgentHarness(engine, ownsEngine: false, change) { Clock = clock ?? TimeProvider.System };
        await harness.StartAsync();
        return harness;
    }

    public static async Task<AgentHarness> OnDockerAsync(Action<NodeOptions>? change = null, ICardSource? cards = null, TimeProvider? clock = null)
    {
        TestDocker.SkipWithoutRelay();
        var harness = new AgentHarness(new DockerEngine(TestDocker.Endpoint), ownsEngine: true, change, cards) { Clock = clock ?? TimeProvider.System };
        await harness.StartAsync();
        return harness;
    }

    public async Task StartAsync(bool waitUntilAdopted = true)
    {
        agent = new NodeAgent(Microsoft.Extensions.Options.Options.Create(Options), Engine, Platform, Cards, Clock, loggers.CreateLogger<NodeAgent>());
        await agent.StartAsync(Token);
        if (waitUntilAdopted)
        {
            var reports = Platform.Reports;
            await UntilAsync(() => Platform.Reports > reports && Platform.LastReport is { Adopted: true }, "the agent adopts");
        }
    }

    /// <summary>Ends the agent and nothing else, as a kill would.</summary>
    public async Task AbandonAsync()
    {
        await Agent.StopAsync(CancellationToken.None);
        agent!.Dispose();
        agent = null;
    }

    public LaunchOrder Order(string instanceId, Func<FunctionSpec, FunctionSpec>? change = null, params CardShare[] cards)
    {
        var spec = new FunctionSpec
        {
            Name = "echo",
            Cpu = 0.5,
            MemoryMiB = 256,
            TimeoutSeconds = 60,
            Container = new ContainerSpec { Image = TestDocker.EchoImage },
        };
        return new LaunchOrder { Lease = Platform.Grant(instanceId, cards), Spec = change?.Invoke(spec) ?? spec, Revision = 1 };
    }

    public string NewId(string what = "i") => $"{what}-{Options.Name}-{Interlocked.Increment(ref lastTask)}";

    public async Task<string> LaunchAsync(Func<FunctionSpec, FunctionSpec>? change = null)
    {
        var id = NewId();
        Assert.Equal(LaunchOutcome.Accepted, await Agent.LaunchAsync(Order(id, change), Token));
        return id;
    }

    public async Task<string> LaunchReadyAsync(Func<FunctionSpec, FunctionSpec>? change = null)
    {
        var id = await LaunchAsync(change);
        await UntilAsync(() => Platform.Latest(id) is { State: InstanceState.Ready } or { Failure: not null }, "the instance is ready");
        Assert.Null(Platform.Latest(id)!.Failure);
        return id;
    }

    public RunOrder RunOf(string instanceId, object payload, double limitSeconds = 60, string? task = null)
    {
        task ??= $"t{Interlocked.Increment(ref lastTask)}";
        return new RunOrder
        {
            RunId = $"{task}.1",
            InstanceId = instanceId,
            Task = new TaskKey("1001", "echo", task),
            Attempt = 1,
            RequestId = $"req-{task}",
            Limit = TimeSpan.FromSeconds(limitSeconds),
            Recorded = true,
            Payload = JsonSerializer.SerializeToUtf8Bytes(payload),
        };
    }

    public async Task<RunOrder> StartRunAsync(string instanceId, object payload, double limitSeconds = 60)
    {
        var order = RunOf(instanceId, payload, limitSeconds);
        Assert.Equal(StartRunOutcome.Started, await Agent.StartRunAsync(order, Token));
        return order;
    }

    public async Task<RunReport> ReportOfAsync(RunOrder order, double seconds = 60)
    {
        await UntilAsync(() => Platform.Runs.Any(report => report.RunId == order.RunId), $"run {order.RunId} is reported", seconds);
        return Assert.Single(Platform.Runs, report => report.RunId == order.RunId);
    }

    public Task UntilLoggedAsync(RunOrder order, string text) => UntilAsync(
        () => Agent.ReadLogAsync(order.Task!.Value, 1, 0, 1 << 16, Token).Result is { } chunk && TextOf(chunk.Data).Contains(text, StringComparison.Ordinal),
        $"run {order.RunId} writes '{text}'");

    public async Task UntilGoneAsync(string instanceId, double seconds = 60)
    {
        await UntilAsync(() => Platform.Released.Contains(instanceId) && !Agent.InstanceIds.Contains(instanceId), $"instance {instanceId} is released", seconds);
        Assert.Equal(InstanceState.Gone, Platform.Latest(instanceId)?.State);
        Assert.Null(await Engine.FindAsync(instanceId, measure: false, Token));
        Assert.False(Directory.Exists(FolderOf(instanceId)));
    }

    public string FolderOf(string instanceId) => Path.Combine(Options.DataDirectory, "instances", instanceId);

    /// <summary>Waits in short steps until something holds; says what did not.</summary>
    public static async Task UntilAsync(Func<bool> condition, string what, double seconds = 60)
    {
        var start = TimeProvider.System.GetTimestamp();
        while (!condition())
        {
            Assert.True(TimeProvider.System.GetElapsedTime(start).TotalSeconds < seconds, $"Within {seconds} s it did not come about that {what}.");
            await Task.Delay(20, Token);
        }
    }

    public static string TextOf(byte[] bytes) => Encoding.UTF8.GetString(bytes);

    /// <summary>Ends everything, and sees that nothing is left in the engine or on disk.</summary>
    public async ValueTask DisposeAsync()
    {
        var leftovers = "";
        try
        {
            if (agent is not null)
            {
                foreach (var id in Agent.InstanceIds)
                {
                    await Agent.StopInstanceAsync(id, force: true, CancellationToken.None);
                }

                var start = TimeProvider.System.GetTimestamp();
                while (Agent.InstanceIds.Count > 0 && TimeProvider.System.GetElapsedTime(start).TotalSeconds < 30)
                {
                    await Task.Delay(20);
                }

                await AbandonAsync();
            }
        }
        finally
        {
            foreach (var container in await Engine.ListAsync(Labels.Node, Options.Name, CancellationToken.None))
            {
                leftovers += $" container {container.Name} ({container.State})";
                await Engine.RemoveAsync(container.Id, CancellationToken.None);
            }

            var instances = Path.Combine(Options.DataDirectory, "instances");
            leftovers += string.Concat(Directory.Exists(instances) ? Directory.EnumerateFileSystemEntries(instances).Select(path => $" folder {path}") : []);
            if (ownsEngine)
            {
                (Engine as IDisposable)?.Dispose();
            }

            loggers.Dispose();
            folder.Dispose();
        }

        Assert.True(leftovers.Length == 0, $"Left over:{leftovers}");
    }

    private sealed class TestOutputLogs(ITestOutputHelper? output) : ILoggerProvider, ILogger
    {
        public ILogger CreateLogger(string categoryName) => this;

        public void Dispose()
        {
        }

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            try
            {
                output?.WriteLine($"{DateTime.UtcNow:HH:mm:ss.fff} {logLevel} {formatter(state, exception)} {exception}");
            }
            catch (InvalidOperationException)
            {
                // The test is over.
            }
        }
    }
}
