using GpuTasks.Cards;
using GpuTasks.Nodes;

namespace GpuTasks.Containers;

/// <summary>What every instance of a node needs from it.</summary>
internal sealed record InstanceServices
{
    public required NodeOptions Options { get; init; }

    public required IContainerEngine Engine { get; init; }

    public required ImageStore Images { get; init; }

    public required INodeReports Reports { get; init; }

    public required ICardSource Cards { get; init; }

    /// <summary>Proves cards clean.</summary>
    public required CardGuard Guard { get; init; }

    public required NodeLedger Ledger { get; init; }

    public required RunLogs Logs { get; init; }

    public required SyncAnswers Answers { get; init; }

    /// <summary>By which patience is measured: it stands still while this process is frozen.</summary>
    public required AwakeClock Time { get; init; }

    /// <summary>Ends that no task wants.</summary>
    public required UnclaimedRuns Unclaimed { get; init; }

    public required ILogger Logger { get; init; }

    /// <summary>How long ago the region confirmed a report of this node.</summary>
    public required Func<TimeSpan> ContactAge { get; init; }

    /// <summary>This boot of the machine.</summary>
    public required string BootId { get; init; }

    /// <summary>Starts at once; more would only queue inside the engine.</summary>
    public required SemaphoreSlim Starts { get; init; }

    /// <summary>The engine's facts, once it has been reached and found fit.</summary>
    public required Task<EngineInfo> EngineInfo { get; init; }

    /// <summary>Sends something that may be lost, and logs a failure.</summary>
    public required Action<Func<Task>> Notify { get; init; }

    /// <summary>Tells everybody whom it concerns that an instance changed.</summary>
    public required Action<Instance> InstanceChanged { get; init; }

    /// <summary>Tells its dispatcher, a little later, that an instance's runs changed.</summary>
    public required Action<Instance> RunsChanged { get; init; }

    /// <summary>Gives a lease back, however often that has to be tried.</summary>
    public required Func<string, CancellationToken, Task> ReleaseAsync { get; init; }
}
