using GpuTasks.Destinations;

namespace GpuTasks.Tasks;

/// <summary>What others may see of a stored task.</summary>
public static class TaskViews
{
    /// <summary>The task as a snapshot.</summary>
    /// <param name="state">A submitted task.</param>
    /// <param name="includeData">Whether payload and result come along.</param>
    /// <param name="contactLostSince">Since when its node has been silent, or null.</param>
    public static TaskSnapshot ToSnapshot(this TaskState state, bool includeData, DateTimeOffset? contactLostSince = null)
    {
        var submission = state.Submission!;
        return new TaskSnapshot
        {
            Key = state.Key!.Value,
            Status = state.Status,
            RequestId = submission.RequestId,
            Qualifier = submission.Qualifier,
            EnqueuedAt = state.EnqueuedAt,
            RunStartedAt = state.RunStartedAt,
            EndedAt = state.EndedAt,
            Duration = state.Duration,
            Attempt = state.Attempt,
            Retries = state.Retries,
            PlatformFaults = state.PlatformFaults,
            InstanceId = state.Slot?.InstanceId ?? "",
            Node = state.Slot?.Node ?? "",
            ErrorMessage = state.ErrorMessage,
            Outcome = state.Outcome,
            Payload = includeData ? submission.Payload : null,
            Result = includeData && state.Result is { } result ? Shown(result) : null,
            ResultTruncated = state.ResultTruncated || state.Result?.Length > MaxShownResult,
            ResultBytes = state.Result?.Length ?? 0,
            DestinationStatus = state.DestinationStatus,
            Delivery = DeliveryOf(state),
            Events = state.Events,
            Recorded = submission.Recorded,
            Version = submission.Version,
            ContactLostSince = contactLostSince,
            Priority = submission.Priority,
            RetryAt = state.Status is GpuTaskStatus.Retrying ? state.WakeAt : null,
        };
    }

    /// <summary>The message of a task that could not be delivered, or null if there is none.</summary>
    /// <param name="state">A task.</param>
    /// <param name="message">The message itself, or null to leave it out.</param>
    public static DeadLetterView? ToDeadLetter(this TaskState state, byte[]? message) => state.DeadLetter is not { } dead ? null : new DeadLetterView
    {
        Key = state.Key!.Value,
        Status = state.Status,
        DeliveryId = DestinationMessage.IdOf(dead.DeliveryId),
        Target = dead.Target,
        Attempts = dead.Attempts,
        Fault = dead.Fault,
        EndedAt = state.EndedAt!.Value,
        At = dead.At,
        KeptUntil = state.WakeAt!.Value,
        Message = message,
    };

    private static DeliveryView? DeliveryOf(TaskState state) =>
        state.Outbox is { } entry ? new DeliveryView(DestinationMessage.IdOf(entry.DeliveryId), entry.Target, entry.Attempts, entry.Fault, state.WakeAt)
        : state.DeadLetter is { } dead ? new DeliveryView(DestinationMessage.IdOf(dead.DeliveryId), dead.Target, dead.Attempts, dead.Fault, NextAt: null)
        : null;

    /// <summary>Longest answer in a task's record (contract 2.3).</summary>
    public const int MaxShownResult = 1 << 20;

    /// <summary>As much of an answer as a task's record holds.</summary>
    public static byte[] Shown(byte[] result) => Cut(result, MaxShownResult);

    /// <summary>The beginning of what may be a text, not cut inside of a character.</summary>
    /// <param name="bytes">The whole.</param>
    /// <param name="most">Most bytes to give.</param>
    public static byte[] Cut(byte[] bytes, int most)
    {
        if (bytes.Length <= most)
        {
            return bytes;
        }

        // A byte that goes on with a character is 10xxxxxx, and a character has at most three of them.
        var end = most;
        while (end > most - 4 && (bytes[end] & 0xC0) == 0x80)
        {
            end--;
        }

        return bytes[..((bytes[end] & 0xC0) == 0x80 ? most : end)];
    }

    /// <summary>Id of an attempt's run: <c>{taskId}.{attempt}</c>. Task ids hold no dot, so it can be read back.</summary>
    public static string RunId(string taskId, int attempt) => $"{taskId}.{attempt}";

    /// <summary>Which attempt a task's run is; 0 for what is no task's run.</summary>
    public static int AttemptOf(string runId) =>
        int.TryParse(runId.AsSpan(runId.LastIndexOf('.') + 1), System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out var attempt) ? attempt : 0;

    /// <summary>Who a run belongs to: the task's id, or the request id of a synchronous call, which holds no dot.</summary>
    public static string OwnerOf(string runId) => runId.LastIndexOf('.') is var dot and >= 0 ? runId[..dot] : runId;

    /// <summary>True for a run of a task, false for one of a synchronous call.</summary>
    public static bool IsAttempt(string runId) => runId.Contains('.', StringComparison.Ordinal);
}
