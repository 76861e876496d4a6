namespace GpuTasks.Tasks;

/// <summary>A node speaks of a task that the store does not have: it was purged, or accepted after the time to which the store was set back.</summary>
/// <param name="task">Task.</param>
[GenerateSerializer, Alias("GpuTasks.UnknownTaskException")]
public sealed class UnknownTaskException(string task)
    : Exception($"The store has no task '{task}'. Its node keeps what became of it.")
{
    /// <summary>Task.</summary>
    [Id(0)] public string TaskKey { get; } = task;
}
