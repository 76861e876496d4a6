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
            Events = state.Events,
            Recorded = submission.Recorded,
            Version = submission.Version,
            ContactLostSince = contactLostSince,
            Priority = submission.Priority,
            RetryAt = state.Status is GpuTaskStatus.Retrying ? state.WakeAt : null,
        };
    }

    /// <summary>Longest answer in a task's record (contract 2.3).</summary>
    public const int MaxShownResult = 1 << 20;

    /// <summary>As much of an answer as a task's record holds. Text is not cut inside of a character.</summary>
    public static byte[] Shown(byte[] result)
    {
        if (result.Length <= MaxShownResult)
        {
            return result;
        }

        // A byte that goes on with a character is 10xxxxxx, and a character has at most three of them.
        var end = MaxShownResult;
        while (end > MaxShownResult - 4 && (result[end] & 0xC0) == 0x80)
        {
            end--;
        }

        return result[..((result[end] & 0xC0) == 0x80 ? MaxShownResult : end)];
    }

    /// <summary>Id of an attempt's run: <c>{taskId}.{attempt}</c>. Task ids hold no dot, so it can be read back.</summary>
    public static string RunId(string taskId, int attempt) => $"{taskId}.{attempt}";

    /// <summary>Who a run belongs to: the task's id, or the request id of a synchronous call, which holds no dot.</summary>
    public static string OwnerOf(string runId) => runId.LastIndexOf('.') is var dot and >= 0 ? runId[..dot] : runId;

    /// <summary>True for a run of a task, false for one of a synchronous call.</summary>
    public static bool IsAttempt(string runId) => runId.Contains('.', StringComparison.Ordinal);
}
