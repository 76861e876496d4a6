using Orleans.Concurrency;

namespace GpuTasks.Triggers;

/// <summary>Answer to a change of a trigger. Numbers never change.</summary>
public enum TriggerChange
{
    /// <summary>Done and durable.</summary>
    Done = 0,

    /// <summary>There is no such trigger.</summary>
    NotFound = 1,

    /// <summary>There is one of this name already.</summary>
    AlreadyExists = 2,

    /// <summary>The function has as many as it may have.</summary>
    LimitReached = 3,

    /// <summary>The qualifier has an HTTP trigger already.</summary>
    SecondHttp = 4,

    /// <summary>The schedule cannot be understood; the message says why.</summary>
    BadSchedule = 5,
}

/// <summary>A change's answer.</summary>
/// <param name="Change">What became of it.</param>
/// <param name="Trigger">The trigger afterwards, if it was changed and is still there.</param>
/// <param name="Message">What is wrong, or empty.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.TriggerAnswer")]
public sealed record TriggerAnswer(
    [property: Id(0)] TriggerChange Change,
    [property: Id(1)] TriggerSnapshot? Trigger = null,
    [property: Id(2)] string Message = "");

/// <summary>
/// All triggers of one function, durable; fires its timers. Key: <c>{account}/{function}</c>. Callers name the function's id,
/// so that triggers of a deleted function never serve a later one of its name.
/// </summary>
[Alias("GpuTasks.ITriggersGrain")]
public interface ITriggersGrain : IGrainWithStringKey
{
    /// <summary>Adds a trigger; at most 100 for a function, and one of HTTP for a qualifier.</summary>
    [Alias("Create")]
    Task<TriggerAnswer> Create(string functionId, TriggerSpec spec, CancellationToken cancellationToken = default);

    /// <summary>Replaces a trigger of the same name.</summary>
    [Alias("Update")]
    Task<TriggerAnswer> Update(string functionId, TriggerSpec spec, CancellationToken cancellationToken = default);

    /// <summary>Removes a trigger.</summary>
    [Alias("Delete")]
    Task<TriggerAnswer> Delete(string functionId, string name, CancellationToken cancellationToken = default);

    /// <summary>A trigger, or null.</summary>
    [Alias("Get"), ReadOnly]
    Task<TriggerSnapshot?> Get(string functionId, string name, CancellationToken cancellationToken = default);

    /// <summary>All of them by name.</summary>
    [Alias("List"), ReadOnly]
    Task<IReadOnlyList<TriggerSnapshot>> List(string functionId, CancellationToken cancellationToken = default);

    /// <summary>The function is gone, and its triggers with it.</summary>
    [Alias("FunctionDeleted")]
    Task FunctionDeleted(string functionId, CancellationToken cancellationToken = default);
}
