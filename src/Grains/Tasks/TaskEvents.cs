using GpuTasks.Destinations;
using GpuTasks.Dispatch;
using GpuTasks.Nodes;

namespace GpuTasks.Tasks;

/// <summary>Something that happened to a task.</summary>
/// <param name="At">When.</param>
public abstract record TaskEvent(DateTimeOffset At);

/// <summary>Something that happened to one attempt; it touches no other.</summary>
/// <param name="At">When.</param>
/// <param name="Attempt">Which attempt.</param>
public abstract record AttemptEvent(DateTimeOffset At, int Attempt) : TaskEvent(At);

/// <summary>It was accepted.</summary>
/// <param name="At">When.</param>
/// <param name="Key">Identity.</param>
/// <param name="Submission">What was submitted.</param>
public sealed record Submitted(DateTimeOffset At, TaskKey Key, TaskSubmission Submission) : TaskEvent(At);

/// <summary>The dispatcher found a slot for it.</summary>
/// <param name="At">When.</param>
/// <param name="Slot">The slot.</param>
public sealed record SlotAssigned(DateTimeOffset At, SlotAssignment Slot) : TaskEvent(At);

/// <summary>A node runs an attempt that the row, set back with the store, may not know.</summary>
/// <param name="At">When it was said.</param>
/// <param name="Attempt">Which attempt.</param>
/// <param name="Slot">Where it runs.</param>
public sealed record RunClaimed(DateTimeOffset At, int Attempt, SlotAssignment Slot) : TaskEvent(At);

/// <summary>Somebody wants it to end.</summary>
/// <param name="At">When.</param>
/// <param name="Reason">For people; may be empty.</param>
public sealed record StopRequested(DateTimeOffset At, string Reason) : TaskEvent(At);

/// <summary>Its function is gone.</summary>
/// <param name="At">When.</param>
public sealed record FunctionDeleted(DateTimeOffset At) : TaskEvent(At);

/// <summary>Its stored wake time has come: the queue deadline, the end of a pause, or the run's deadline, by its status.</summary>
/// <param name="At">When.</param>
/// <param name="RunFor">How long the run is known to be on, by a clock that nobody can set; null if the wall clock's word is enough.</param>
public sealed record WakeTimeReached(DateTimeOffset At, TimeSpan? RunFor = null) : TaskEvent(At);

/// <summary>An instance that would have served it could not start.</summary>
/// <param name="At">When.</param>
/// <param name="InstanceId">Which.</param>
/// <param name="Failure">Why.</param>
public sealed record LaunchFailed(DateTimeOffset At, string InstanceId, LaunchFailure Failure) : TaskEvent(At);

/// <summary>The attempt ended.</summary>
/// <param name="At">When.</param>
/// <param name="Report">How.</param>
public sealed record RunEnded(DateTimeOffset At, RunReport Report) : AttemptEvent(At, Report.Attempt);

/// <summary>The node proved that it has no such run and never will again: it did not begin, or was lost with its instance.</summary>
/// <param name="At">When.</param>
/// <param name="Attempt">Which attempt.</param>
/// <param name="Why">Told to the task's owner.</param>
public sealed record RunLost(DateTimeOffset At, int Attempt, string Why = "The instance that ran it is gone.") : AttemptEvent(At, Attempt);

/// <summary>The destination was told.</summary>
/// <param name="At">When.</param>
public sealed record DestinationTold(DateTimeOffset At) : TaskEvent(At);

/// <summary>The destination could not be told.</summary>
/// <param name="At">When.</param>
/// <param name="Fault">Why.</param>
/// <param name="KeptUntil">How long it is kept if this is the end of it.</param>
public sealed record DestinationMissed(DateTimeOffset At, DeliveryFault Fault, DateTimeOffset KeptUntil) : TaskEvent(At);

/// <summary>Somebody wants a message that was given up to be delivered after all.</summary>
/// <param name="At">When.</param>
public sealed record RedeliveryRequested(DateTimeOffset At) : TaskEvent(At);

/// <summary>A message that was given up is no longer wanted.</summary>
/// <param name="At">When.</param>
public sealed record DeadLetterDeleted(DateTimeOffset At) : TaskEvent(At);
