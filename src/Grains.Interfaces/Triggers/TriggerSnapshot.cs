namespace GpuTasks.Triggers;

/// <summary>What makes a function run. Numbers never change.</summary>
public enum TriggerKind
{
    /// <summary>A schedule.</summary>
    Timer = 0,

    /// <summary>HTTP requests at an address of the gateway.</summary>
    Http = 1,
}

/// <summary>A trigger as it was asked for.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.TriggerSpec")]
public sealed record TriggerSpec
{
    /// <summary>Name: 1 to 128 letters, digits, <c>_</c>, <c>-</c>; not starting with a digit or <c>-</c>.</summary>
    [Id(0)] public required string Name { get; init; }

    /// <summary>Kind; never changes.</summary>
    [Id(1)] public TriggerKind Kind { get; init; }

    /// <summary>The contract's <c>triggerConfig</c>: JSON as it was given.</summary>
    [Id(2)] public required string Config { get; init; }

    /// <summary>Version or alias that it calls; <c>LATEST</c> by default.</summary>
    [Id(3)] public string Qualifier { get; init; } = "LATEST";

    /// <summary>Free text.</summary>
    [Id(4)] public string Description { get; init; } = "";

    /// <summary>Stored and given back; means nothing here.</summary>
    [Id(5)] public string SourceArn { get; init; } = "";

    /// <summary>Stored and given back; means nothing here.</summary>
    [Id(6)] public string InvocationRole { get; init; } = "";

    /// <summary>A timer's schedule, payload and switch, read from <see cref="Config"/>; null for another kind.</summary>
    [Id(7)] public TimerSpec? Timer { get; init; }
}

/// <summary>What a timer does and when.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.TimerSpec")]
public sealed record TimerSpec
{
    /// <summary><c>@every 5m</c>, or a cron expression of 5 fields, or of 6 with seconds first; in front perhaps <c>CRON_TZ=Asia/Shanghai</c>. UTC without.</summary>
    [Id(0)] public required string Expression { get; init; }

    /// <summary>False: it does not fire.</summary>
    [Id(1)] public bool Enabled { get; init; } = true;

    /// <summary>Text handed over with each firing.</summary>
    [Id(2)] public string Payload { get; init; } = "";
}

/// <summary>What a timer has done.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.TimerStatus")]
public sealed record TimerStatus
{
    /// <summary>When it fires next; null if it is switched off or its schedule has no time left.</summary>
    [Id(0)] public DateTimeOffset? NextAt { get; init; }

    /// <summary>Time that the last firing was due; null before the first.</summary>
    [Id(1)] public DateTimeOffset? LastDueAt { get; init; }

    /// <summary>When it really fired.</summary>
    [Id(2)] public DateTimeOffset? LastFiredAt { get; init; }

    /// <summary>Task that it submitted.</summary>
    [Id(3)] public string LastTaskId { get; init; } = "";

    /// <summary>Firings left out since that one, because nothing of the platform ran when they were due; 1,000 stands for more too.</summary>
    [Id(4)] public int LastSkipped { get; init; }

    /// <summary>Firings made up for after a downtime, in all.</summary>
    [Id(5)] public long CaughtUp { get; init; }

    /// <summary>Firings left out, in all.</summary>
    [Id(6)] public long Skipped { get; init; }

    /// <summary>Why it could not fire just now, or empty; it is tried again.</summary>
    [Id(7)] public string Error { get; init; } = "";
}

/// <summary>A trigger as it stands.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.TriggerSnapshot")]
public sealed record TriggerSnapshot
{
    /// <summary>As asked for.</summary>
    [Id(0)] public required TriggerSpec Spec { get; init; }

    /// <summary>Made at creation; differs when a name is used again.</summary>
    [Id(1)] public required string TriggerId { get; init; }

    /// <summary>When it was created.</summary>
    [Id(2)] public DateTimeOffset CreatedAt { get; init; }

    /// <summary>When it was last changed.</summary>
    [Id(3)] public DateTimeOffset ModifiedAt { get; init; }

    /// <summary>What a timer has done; null for another kind.</summary>
    [Id(4)] public TimerStatus? Timer { get; init; }
}
