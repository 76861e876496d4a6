namespace GpuTasks.Store;

/// <summary>Names that stored rows and the code agree on. Stored data contains them: never rename.</summary>
public static class StoreNames
{
    /// <summary>Name of the one grain storage provider.</summary>
    public const string Provider = "store";

    /// <summary>State name of task rows.</summary>
    public const string Task = "task";

    /// <summary>State name of function rows.</summary>
    public const string Function = "function";

    /// <summary>State name of a region's own row.</summary>
    public const string Region = "region";

    /// <summary>State name of the row of one node of a region: its leases.</summary>
    public const string RegionNode = "region-node";

    /// <summary>State name of the row of all accounts and keys.</summary>
    public const string Accounts = "accounts";

    /// <summary>State name of the rows of a function's triggers.</summary>
    public const string Triggers = "triggers";

    /// <summary>State name of the rows of an account's webhook secrets.</summary>
    public const string Webhooks = "webhooks";
}

/// <summary>
/// What lists, counts and the sweeper need of a row. The statement that writes a state writes it into columns, so that both
/// always agree: the plain provider's from the JSON property <c>Index</c>, which only its rows have, the committer's as it is.
/// Times are milliseconds since the epoch.
/// </summary>
public sealed record IndexColumns
{
    /// <summary>Owner.</summary>
    public required string Account { get; init; }

    /// <summary>Function name.</summary>
    public required string Function { get; init; }

    /// <summary>Task id; null for rows that are no tasks.</summary>
    public string? TaskId { get; init; }

    /// <summary>Version or alias; null for rows that are no tasks.</summary>
    public string? Qualifier { get; init; }

    /// <summary>Whose queue it is in, as <see cref="Functions.DefinitionKey.Line"/>; null for the queue of the function itself.</summary>
    public string? Line { get; init; }

    /// <summary>Name of the <see cref="Tasks.GpuTaskStatus"/>; null for rows that are no tasks.</summary>
    public string? Status { get; init; }

    /// <summary>False hides a row from lists and counts of recorded tasks; it is still dispatched and woken.</summary>
    public bool Listed { get; init; } = true;

    /// <summary>Class 0 to 9.</summary>
    public int Priority { get; init; }

    /// <summary>When it was accepted.</summary>
    public long? EnqueuedAt { get; init; }

    /// <summary>When its latest attempt started.</summary>
    public long? StartedAt { get; init; }

    /// <summary>When it became final.</summary>
    public long? EndedAt { get; init; }

    /// <summary>When it must be woken if it has not moved on, or null for never.</summary>
    public long? WakeAt { get; init; }

    /// <summary>When its message to a destination was given up, while that is kept.</summary>
    public long? DeadAt { get; init; }
}

/// <summary>A state whose rows can be listed.</summary>
public interface IIndexed
{
    /// <summary>The row's index columns; null for an empty state.</summary>
    IndexColumns? Index { get; }
}
