namespace GpuTasks.Tasks;

/// <summary>Identity of a task: unique within its function, which is unique within its account.</summary>
/// <param name="Account">Account id.</param>
/// <param name="Function">Function name.</param>
/// <param name="TaskId">Task id: letter or <c>_</c> first, then letters, digits, <c>_</c>, <c>-</c>, at most 128 (contract 1.4).</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.TaskKey")]
public readonly record struct TaskKey(
    [property: Id(0)] string Account,
    [property: Id(1)] string Function,
    [property: Id(2)] string TaskId)
{
    /// <summary>Key of the function's grains: <c>{account}/{function}</c>.</summary>
    public string FunctionKey => $"{Account}/{Function}";

    /// <summary>Key of the task's grain: <c>{account}/{function}/{taskId}</c>.</summary>
    public override string ToString() => $"{Account}/{Function}/{TaskId}";

    /// <summary>Reads a grain key back.</summary>
    /// <exception cref="FormatException">The text has not exactly three parts.</exception>
    public static TaskKey Parse(string key) => key.Split('/') is [var account, var function, var taskId]
        ? new TaskKey(account, function, taskId)
        : throw new FormatException($"'{key}' is no task key; expected account/function/taskId.");
}
