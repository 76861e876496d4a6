using System.Text.Json;
using GpuTasks.Destinations;
using GpuTasks.Dispatch;
using GpuTasks.Nodes;
using static GpuTasks.Tasks.GpuTaskStatus;
using static GpuTasks.Tasks.TaskEffects;

namespace GpuTasks.Tasks;

/// <summary>The life of a task as a table. No clock, no I/O: the same state and event always give the same next state.</summary>
public static class TaskMachine
{
    /// <summary>Longest history kept: the first ten events and the latest; what lies between is dropped.</summary>
    public const int MaxEvents = 100;

    /// <summary>How long after its limit the grain itself ends a run that its relay should have ended.</summary>
    public static readonly TimeSpan DeadlineMargin = TimeSpan.FromSeconds(3);

    /// <summary>
    /// How soon after its start a run is ordered once more. The process may have died between the durable start and the order, and nothing
    /// else would look at the task before its deadline, which can be a day away.
    /// </summary>
    public static readonly TimeSpan OrderCheckAfter = TimeSpan.FromSeconds(15);

    /// <summary>
    /// How long after a task's end its message is looked for by its stored time. Its own activation sends it at once; this is
    /// for a message whose sender died, and longer than one try.
    /// </summary>
    public static readonly TimeSpan DeliveryCheckAfter = TimeSpan.FromSeconds(30);

    private static readonly TimeSpan CancelRepeat = TimeSpan.FromSeconds(10);

    /// <summary>The state after an event; the same instance if the event changes nothing.</summary>
    public static TaskState Apply(TaskState s, TaskEvent e) => (s.Status, e) switch
    {
        // The index keeps milliseconds: more here would order the same ticket differently in memory and in the store.
        (GpuTaskStatus.None, Submitted x) => Accept(x with { At = DateTimeOffset.FromUnixTimeMilliseconds(x.At.ToUnixTimeMilliseconds()) }),
        // An attempt is written before it begins, so one that the row does not know says that the row is of an earlier time.
        (Enqueued or Retrying or Running or Stopping, RunClaimed x) when x.Attempt > s.Attempt => TakeUp(s, x, x.Attempt, x.Slot),
        // The same attempt twice: this one lives, and the other was never confirmed.
        (Running, RunClaimed x) when x.Attempt == s.Attempt && x.Slot.InstanceId != s.Slot!.InstanceId && s.Pending.HasFlag(StartRun) => TakeUp(s, x, x.Attempt, x.Slot),
        (Enqueued or Retrying or Running or Stopping, RunEnded x) when x.Attempt > s.Attempt => Apply(TakeUp(s, x, x.Attempt, SlotOf(s, x.Report)), x),
        // A late report from an earlier attempt must not touch this one.
        (_, AttemptEvent x) when x.Attempt != s.Attempt => s,
        // A slot that was given back is not taken twice.
        (Enqueued, SlotAssigned x) when s.Slot?.SlotId == x.Slot.SlotId => s,
        (Enqueued, SlotAssigned x) => Begin(s, x),
        (Enqueued, WakeTimeReached) => End(s, e, Expired, "Waited longer than its maximum event age."),
        (Retrying, WakeTimeReached) when e.At >= s.QueueDeadline => End(s, e, Expired, "Waited longer than its maximum event age."),
        (Retrying, WakeTimeReached) => Note(s with { Status = Enqueued, WakeAt = s.QueueDeadline, Pending = JoinQueue }, e, ""),
        (Enqueued or Retrying, StopRequested x) => End(s, e, Stopped, x.Reason),
        (Enqueued or Retrying, FunctionDeleted) => End(s, e, Invalid, "Its function was deleted."),
        (Enqueued, LaunchFailed x) when s.LastFailedLaunch == x.InstanceId => s,
        (Enqueued, LaunchFailed x) => AfterFailure(
            s with { Attempt = s.Attempt + 1, LastFailedLaunch = x.InstanceId, Slot = null },
            e, x.Failure.Outcome, x.Failure.Message, LeaveQueue),
        (Running, StopRequested x) => Note(s with { Status = Stopping, Pending = CancelRun, WakeAt = e.At + CancelRepeat }, e, x.Reason),
        (Running, FunctionDeleted) => Note(s with { Status = Stopping, Pending = CancelRun, WakeAt = e.At + CancelRepeat }, e, "Its function was deleted."),
        // A run that began late has its whole limit; the relay, which knows when it began, keeps it to the second.
        (Running, WakeTimeReached) when !s.OrderChecked => s with { OrderChecked = true, Pending = StartRun, WakeAt = e.At + s.Slot!.RunLimit + DeadlineMargin },
        // The wall clock was set forward, or the silo that knew when the run began is gone: no run ends for that. Its relay has the limit anyway.
        (Running, WakeTimeReached { RunFor: { } on }) when s.Slot!.RunLimit + DeadlineMargin - on is var left && left > TimeSpan.Zero => s with { WakeAt = e.At + left },
        // The status stays: the slot is ours until the run is seen to have ended.
        (Running, WakeTimeReached) => s with { Overdue = true, Pending = CancelRun, WakeAt = e.At + CancelRepeat },
        (Stopping, WakeTimeReached) => s with { Pending = CancelRun, WakeAt = e.At + CancelRepeat },
        // It may have finished before the cancel arrived: then the answer stands.
        (Running or Stopping, RunEnded { Report.Outcome: RunOutcome.Succeeded } x) when !TookTooLong(s, x.Report) => End(WithReport(s, x), e, Succeeded, AnswerNote(x.Report.Response)),
        (Stopping, RunEnded x) => End(WithReport(s, x), e, Stopped, ""),
        (Stopping, RunLost) => End(s, e, Stopped, ""),
        (Running, RunEnded x) => AfterFailure(WithReport(s, x), e, OutcomeOf(s, x), MessageOf(s, x), FreeSlot),
        (Running, RunLost x) => AfterFailure(s, e, RunOutcome.NodeLost, x.Why, FreeSlot),
        (_, DestinationTold) when s.Outbox is not null => s with { DestinationStatus = "Succeeded", Outbox = null, WakeAt = null, Pending = TaskEffects.None },
        (_, DestinationMissed x) when s.Outbox is { } entry => Miss(s, entry, x),
        (_, RedeliveryRequested) when s.DeadLetter is { } dead => s with
        {
            DestinationStatus = "Retrying",
            DeadLetter = null,
            Outbox = new OutboxEntry(dead.DeliveryId, dead.Target, dead.Attempts) { Fault = dead.Fault, ReplayedAt = e.At },
            WakeAt = e.At + DeliveryCheckAfter,
            Pending = Notify,
        },
        (_, DeadLetterDeleted or WakeTimeReached) when s.DeadLetter is not null => s with { DeadLetter = null, WakeAt = null },
        _ => s, // Repeats and lost races are normal.
    };

    private static string AnswerNote(byte[] answer) => answer.Length <= TaskViews.MaxShownResult
        ? ""
        : $"The answer has {answer.Length} bytes, more than returnPayload holds; /v1/functions/{{function}}/tasks/{{taskId}}/result has all of them.";

    private static TaskState Miss(TaskState s, OutboxEntry entry, DestinationMissed x)
    {
        var missed = entry with
        {
            Attempts = entry.Attempts + (x.Fault.Tried ? 1 : 0),
            Pauses = entry.Pauses + 1,
            Fault = x.Fault.Tried || entry.Fault.Length == 0 ? x.Fault.Message : entry.Fault,
        };
        var next = x.Fault.Final ? null : DeliveryPlan.Next(entry.DeliveryId, entry.Pauses, entry.ReplayedAt ?? s.EndedAt!.Value, x.At, x.Fault.RetryAfter);
        return next is null
            ? s with
            {
                DestinationStatus = "Failed",
                Outbox = null,
                DeadLetter = new DeadLetter(missed.DeliveryId, missed.Target, missed.Attempts, missed.Fault, x.At),
                WakeAt = x.KeptUntil,
                Pending = TaskEffects.None,
            }
            : s with { DestinationStatus = missed.Attempts > 0 ? "Retrying" : s.DestinationStatus, Outbox = missed, WakeAt = next, Pending = TaskEffects.None };
    }

    private static TaskState Accept(Submitted x) => Note(
        new TaskState
        {
            Key = x.Key,
            Submission = x.Submission,
            Status = Enqueued,
            Pending = JoinQueue,
            EnqueuedAt = x.At,
            QueueDeadline = x.At + x.Submission.MaxEventAge,
            WakeAt = x.At + x.Submission.MaxEventAge,
        },
        x,
        "");

    private static TaskState Begin(TaskState s, SlotAssigned x) => Note(
        s with
        {
            Status = Running,
            Attempt = s.Attempt + 1,
            Retries = s.CountedFailures,
            Slot = x.Slot,
            RunStartedAt = x.At,
            Duration = TimeSpan.Zero,
            WakeAt = x.At + OrderCheckAfter,
            OrderChecked = false,
            Overdue = false,
            Pending = StartRun,
        },
        x,
        "");

    private static TaskState TakeUp(TaskState s, TaskEvent e, int attempt, SlotAssignment slot) => Note(
        s with
        {
            Status = s.Status is Stopping ? Stopping : Running,
            Attempt = attempt,
            Retries = s.CountedFailures,
            Slot = slot,
            RunStartedAt = e.At,
            WakeAt = e.At + OrderCheckAfter,
            OrderChecked = false,
            Overdue = false,
            Pending = (s.Status is Enqueued or Retrying ? LeaveQueue : TaskEffects.None) | (s.Status is Stopping ? CancelRun : TaskEffects.None),
        },
        e,
        "Taken up from its node: the store had been set back to an earlier time.");

    private static SlotAssignment SlotOf(TaskState s, RunReport report) => new()
    {
        SlotId = report.RunId,
        Node = report.Node,
        InstanceId = report.InstanceId,
        RunLimit = s.Slot?.RunLimit ?? report.Duration,
        Revision = s.Slot?.Revision ?? 0,
    };

    // A run whose node was away past the limit may have been answered long before, and in time: its relay's clock says so.
    private static bool TookTooLong(TaskState s, RunReport report) =>
        s.Overdue && !(report.Outcome is RunOutcome.Succeeded or RunOutcome.FunctionError && report.Duration <= s.Slot!.RunLimit);

    // A stop of the instance that nobody asked this task for is the platform taking its card back.
    private static RunOutcome OutcomeOf(TaskState s, RunEnded x) =>
        TookTooLong(s, x.Report) ? RunOutcome.TimedOut : x.Report.Outcome == RunOutcome.Cancelled ? RunOutcome.Preempted : x.Report.Outcome;

    private static string MessageOf(TaskState s, RunEnded x) =>
        OutcomeOf(s, x) is RunOutcome.TimedOut
            ? $"Function timed out after {s.Slot!.RunLimit.TotalSeconds:0.###} seconds."
            : x.Report.Message;

    private static TaskState WithReport(TaskState s, RunEnded x) => s with
    {
        Outcome = x.Report.Outcome,
        Duration = x.Report.Duration,
        Result = x.Report.Response,
        ResultTruncated = x.Report.ResponseTruncated,
    };

    private static TaskState AfterFailure(TaskState s, TaskEvent e, RunOutcome outcome, string message, TaskEffects release)
    {
        var counted = RetryPolicy.Counts(outcome);
        var failed = s with
        {
            Outcome = outcome,
            ErrorMessage = message,
            CountedFailures = s.CountedFailures + (counted ? 1 : 0),
            PlatformFaults = s.PlatformFaults + (counted ? 0 : 1),
        };
        return RetryPolicy.DelayBeforeNext(failed, outcome) is { } delay
            ? Note(failed with { Status = Retrying, WakeAt = e.At + delay, Pending = release }, e, Detail(outcome, message))
            : End(failed, e, Failed, message);
    }

    private static TaskState End(TaskState s, TaskEvent e, GpuTaskStatus status, string message)
    {
        var target = status is Succeeded ? s.Submission!.OnSuccess : status is Failed or Expired or Invalid ? s.Submission!.OnFailure : null;
        var ended = s with
        {
            Status = status,
            EndedAt = e.At,
            WakeAt = target is null ? null : e.At + DeliveryCheckAfter,
            ErrorMessage = status is Succeeded ? "" : message.Length > 0 ? message : s.ErrorMessage,
            // The time is in it because the id of a task that was purged may be used again.
            Outbox = target is null ? null : new OutboxEntry($"{s.Key!.Value}:{s.EnqueuedAt.ToUnixTimeMilliseconds()}:{status}", target, 0),
            Pending = (target is null ? TaskEffects.None : Notify) | (s.Status.HoldsSlot() ? FreeSlot : LeaveQueue),
        };
        return Note(ended, e, status is Failed ? Detail(s.Outcome ?? RunOutcome.FunctionError, message) : message);
    }

    private static string Detail(RunOutcome outcome, string message) =>
        JsonSerializer.Serialize(new EventDetail(outcome.ToString(), message), TaskJson.Default.EventDetail);

    private static TaskState Note(TaskState s, TaskEvent e, string detail)
    {
        var next = new TaskEventRecord(s.Events.Count == 0 ? 1 : s.Events[^1].EventId + 1, s.Status, e.At, detail);
        return s with { Events = s.Events.Count < MaxEvents ? [.. s.Events, next] : [.. s.Events.Take(10), .. s.Events.Skip(11), next] };
    }
}
