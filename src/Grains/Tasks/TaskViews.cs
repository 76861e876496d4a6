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
            Result = includeData ? state.Result : null,
            ResultTruncated = state.ResultTruncated,
            DestinationStatus = state.DestinationStatus,
            Events = state.Events,
            Recorded = submission.Recorded,
            ContactLostSince = contactLostSince,
            Priority = submission.Priority,
            RetryAt = state.Status is GpuTaskStatus.Retrying ? state.WakeAt : null,
        };
    }

    /// <summary>Id of an attempt's run: <c>{taskId}.{attempt}</c>. Task ids hold no dot, so it can be read back.</summary>
    public static string RunId(string taskId, int attempt) => $"{taskId}.{attempt}";

    /// <summary>Who a run belongs to: the task's id, or the request id of a synchronous call, which holds no dot.</summary>
    public static string OwnerOf(string runId) => runId.LastIndexOf('.') is var dot and >= 0 ? runId[..dot] : runId;
}
