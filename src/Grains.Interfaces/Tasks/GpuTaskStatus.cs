namespace GpuTasks.Tasks;

/// <summary>Where a task stands. Names are those of the wire contract (section 2.1); numbers never change.</summary>
public enum GpuTaskStatus
{
    /// <summary>Nothing was submitted under this id.</summary>
    None = 0,

    /// <summary>Stored and waiting for a slot.</summary>
    Enqueued = 1,

    /// <summary>Reserved by the contract; never returned today.</summary>
    Dequeued = 2,

    /// <summary>On an instance.</summary>
    Running = 3,

    /// <summary>The last attempt failed; another follows after a pause.</summary>
    Retrying = 4,

    /// <summary>A stop was asked for; the run has not been seen to end yet.</summary>
    Stopping = 5,

    /// <summary>Final: the function answered with success.</summary>
    Succeeded = 6,

    /// <summary>Final: the last permitted attempt failed.</summary>
    Failed = 7,

    /// <summary>Final: ended by a stop.</summary>
    Stopped = 8,

    /// <summary>Final: waited longer than its event age and never ran.</summary>
    Expired = 9,

    /// <summary>Final: can never run, for instance because its function is gone.</summary>
    Invalid = 10,
}

/// <summary>Questions about a status that more than one part asks.</summary>
public static class GpuTaskStatusExtensions
{
    /// <summary>True when the status never changes again.</summary>
    public static bool IsFinal(this GpuTaskStatus status) => status >= GpuTaskStatus.Succeeded;

    /// <summary>True while the task may hold a slot on an instance.</summary>
    public static bool HoldsSlot(this GpuTaskStatus status) => status is GpuTaskStatus.Running or GpuTaskStatus.Stopping;
}
