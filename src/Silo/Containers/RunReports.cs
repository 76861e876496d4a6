using System.Globalization;
using GpuTasks.Nodes;
using GpuTasks.Tasks;

namespace GpuTasks.Containers;

/// <summary>What the agent itself wrote down about a run before it handed it over; the tenant cannot touch it.</summary>
internal sealed record RunRecord
{
    /// <summary>Run id.</summary>
    public required string RunId { get; init; }

    /// <summary>Task, or null for a synchronous call.</summary>
    public TaskKey? Task { get; init; }

    /// <summary>Attempt.</summary>
    public int Attempt { get; init; }

    /// <summary>Id of the call.</summary>
    public string RequestId { get; init; } = "";

    /// <summary>Longest run.</summary>
    public long LimitMs { get; init; }

    /// <summary>Set once somebody asked for the run's end.</summary>
    public bool Cancelled { get; init; }

    /// <summary>Set once the agent had to end the instance because the run stayed past its limit.</summary>
    public bool Overdue { get; init; }
}

/// <summary>How the instance around a run ended, where that matters for the run.</summary>
/// <param name="Fault">Class if the platform or the machine is to blame, not the function; else null.</param>
/// <param name="OutOfMemory">The engine saw an out-of-memory kill.</param>
/// <param name="Detail">For people.</param>
internal sealed record InstanceEnd(RunOutcome? Fault, bool OutOfMemory, string Detail);

/// <summary>Turns what the relay says about a run's end into a report. No I/O.</summary>
internal static class RunReports
{
    /// <summary>Longest answer of a synchronous call (contract 3).</summary>
    public const int SyncResponseLimit = 32 << 20;

    /// <summary>Longest log tail (contract 5).</summary>
    public const int LogTailLimit = 4 << 10;

    /// <summary>Most characters of an answer's headers together.</summary>
    private const int HeaderLimit = 16 << 10;

    private const int MessageLimit = 2_000;

    /// <summary>How an instance is ending while its relay still speaks; null if it is not.</summary>
    public static InstanceEnd? EndOf(InstanceMemo memo) => memo switch
    {
        // What the card did says more than how the process went down.
        { Failure: { Outcome: RunOutcome.GpuFault or RunOutcome.GpuOutOfMemory } failure } => new InstanceEnd(failure.Outcome, OutOfMemory: false, failure.Message),
        { Failure: { } failure } => new InstanceEnd(null, OutOfMemory: false, failure.Message),
        { Stop: StopMode.Forced } => new InstanceEnd(RunOutcome.Preempted, OutOfMemory: false, "The platform ended the instance."),
        _ => null,
    };

    /// <summary>How an instance has ended.</summary>
    /// <param name="memo">What is known of it.</param>
    /// <param name="rebooted">Whether the machine was restarted since its container was started.</param>
    /// <param name="last">What is left of its container, or null.</param>
    public static InstanceEnd EndOf(InstanceMemo memo, bool rebooted, ContainerInfo? last)
    {
        if (rebooted)
        {
            return new InstanceEnd(RunOutcome.NodeLost, OutOfMemory: false, "The machine was restarted.");
        }

        var end = EndOf(memo)
            ?? new InstanceEnd(null, OutOfMemory: false, last is null ? "The instance is gone." : string.Create(CultureInfo.InvariantCulture, $"The instance ended with code {last.ExitCode}."));

        // The node removes a container only after its runs are told, so somebody else removed one that is gone: no fault of the function.
        return end with { Fault = end.Fault ?? (last is null ? RunOutcome.EngineError : null), OutOfMemory = last is { OutOfMemory: true } };
    }

    /// <summary>Class and message of a run's end.</summary>
    /// <param name="run">The relay's document; one that does not say "ended" means that the instance went first. Null if there is none.</param>
    /// <param name="record">The agent's own record.</param>
    /// <param name="end">How the instance ended, or null while it lives.</param>
    /// <param name="responseReadable">False if the answer that the document speaks of is not there.</param>
    public static (RunOutcome Outcome, string Message) Classify(RelayRun? run, RunRecord record, InstanceEnd? end, bool responseReadable)
    {
        var outcome = run is { Ended: true } ? run.Outcome : null;
        if (outcome == "answered")
        {
            return Judge(run!, responseReadable);
        }

        if (outcome == "timed-out" || record.Overdue)
        {
            return (RunOutcome.TimedOut, string.Create(CultureInfo.InvariantCulture, $"The run passed its limit of {record.LimitMs / 1000.0:0.###} s and was ended."));
        }

        switch (outcome)
        {
            case "out-of-memory":
                return (RunOutcome.HostOutOfMemory, Text(run!.Message, "The function was killed for using more memory than it has."));
            case "contact-lost":
                return (RunOutcome.NodeLost, Text(run!.Message, "The node had no contact with the platform for too long."));
            case "unread":
                return (RunOutcome.Cancelled, Text(run!.Message, "Nobody asked for the run's answer any more."));
            case "cancelled" when record.Cancelled:
                return (RunOutcome.Cancelled, Text(run!.Message, "The run was ended as asked."));
            case "cancelled":
                // Nobody asked for the run's end, so somebody ended the whole instance.
                return end is null
                    ? (RunOutcome.Preempted, "The instance was stopped from outside of the platform.")
                    : (end.Fault ?? RunOutcome.Crashed, end.Detail);
            case { } other:
                // Who asked for the end gets to hear "cancelled", even if the process died of it in its own way.
                return record.Cancelled
                    ? (RunOutcome.Cancelled, Text(run!.Message, "The run was ended as asked."))
                    : end is { Fault: { } fault }
                        ? (fault, end.Detail)
                        : (RunOutcome.Crashed, Text(run!.Message, other == "disconnected" ? "The function closed the connection without an answer." : "The function's process ended."));
            default:
                return record.Cancelled
                    ? (RunOutcome.Cancelled, "The run was ended as asked, with its instance.")
                    : end is { OutOfMemory: true }
                        ? (RunOutcome.HostOutOfMemory, "The instance was killed for using more memory than it has.")
                        : end is { Fault: { } cause }
                            ? (cause, end.Detail)
                            : (RunOutcome.Crashed, end?.Detail ?? "The instance ended.");
        }
    }

    /// <summary>The answer's headers, of what the tenant says they are: names and values in turn.</summary>
    public static IReadOnlyList<HttpField> Headers(IReadOnlyList<string?>? lines)
    {
        var fields = new List<HttpField>();
        var left = HeaderLimit;
        for (var i = 0; i + 1 < (lines?.Count ?? 0); i += 2)
        {
            var (name, value) = (lines![i] ?? "", lines[i + 1] ?? "");
            left -= name.Length + value.Length;
            if (left >= 0 && name.Length > 0 && name.All(IsToken) && value.All(c => c is '\t' or (>= ' ' and <= '~')))
            {
                fields.Add(new HttpField(name, value));
            }
        }

        return fields;

        static bool IsToken(char c) => char.IsAsciiLetterOrDigit(c) || "!#$%&'*+-.^_`|~".Contains(c, StringComparison.Ordinal);
    }

    /// <summary>A text of the tenant's, cut to what a person reads.</summary>
    public static string Text(string? text, string otherwise) =>
        string.IsNullOrWhiteSpace(text) ? otherwise : text.Length <= MessageLimit ? text : text[..MessageLimit];

    private static (RunOutcome, string) Judge(RelayRun run, bool responseReadable)
    {
        var fcStatus = run.FcStatus?.Trim() ?? "";
        if (fcStatus is not ("" or "200"))
        {
            return (RunOutcome.FunctionError, $"The function reported a failure by x-fc-status {Text(fcStatus, "")} with HTTP status {run.StatusCode}.");
        }

        if (run.StatusCode is >= 500 or 404 or < 100)
        {
            return (RunOutcome.FunctionError, $"The function answered with HTTP status {run.StatusCode}.");
        }

        return responseReadable || run.ResponseBytes == 0
            ? (RunOutcome.Succeeded, "")
            : (RunOutcome.FunctionError, "The function answered, but its answer can no longer be read.");
    }
}
