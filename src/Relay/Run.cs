using System.Diagnostics;

namespace GpuTasks.Relay;

/// <summary>One run in memory. Everything that changes is guarded by the lock of <see cref="Instance"/>.</summary>
internal sealed class Run(RunOrder order, RunDocument document)
{
    private readonly TaskCompletionSource<bool> admitted = new(TaskCreationOptions.RunContinuationsAsynchronously);

    internal RunOrder Order { get; } = order;

    internal RunDocument Document { get; set; } = document;

    internal string Id => Document.RunId;

    /// <summary>True when the order is durable, false when it came to nothing; until then the body is still arriving.</summary>
    internal Task<bool> Admitted => admitted.Task;

    /// <summary>True between acceptance and end.</summary>
    internal bool IsOpen => Admitted is { IsCompletedSuccessfully: true, Result: true } && Document.State == RunStates.Running;

    /// <summary>Outcome that somebody asked for, by a cancel, the deadline or a stop; null while nobody did.</summary>
    internal string? EndAsked { get; set; }

    /// <summary>Why.</summary>
    internal string EndReason { get; set; } = "";

    /// <summary>True when only the connection is given up and the function's process goes on for other runs.</summary>
    internal bool LeftBehind { get; set; }

    /// <summary>Closes the connection to the function.</summary>
    internal CancellationTokenSource Closing { get; } = new();

    /// <summary>Version of the status that showed its document first.</summary>
    internal long ChangedAt { get; set; } = 1;

    /// <summary>The body on its way to the function, if it follows its order.</summary>
    internal StreamWindow? Body { get; } = order.BodyBytes is null ? null : new StreamWindow();

    /// <summary>The answer on its way to its reader, if it is streamed.</summary>
    internal StreamWindow? Answer { get; } = order.Streams ? new StreamWindow() : null;

    /// <summary>Completes once the answer has begun.</summary>
    internal TaskCompletionSource<AnswerHead> Head { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Monotonic moment of acceptance.</summary>
    internal long Since { get; } = Stopwatch.GetTimestamp();

    /// <summary>What the memory cgroup had counted at the start.</summary>
    internal long OomKillsBefore { get; init; }

    /// <summary>Completes when the run has ended and all of it is on disk.</summary>
    internal Task Execution { get; set; } = Task.CompletedTask;

    internal void Admit(bool accepted) => admitted.TrySetResult(accepted);
}
