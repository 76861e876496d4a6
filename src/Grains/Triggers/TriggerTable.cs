using System.Globalization;

namespace GpuTasks.Triggers;

/// <summary>Stored row of a function's triggers; JSON by property name, so a rename is a migration.</summary>
public sealed record TriggersState
{
    /// <summary>Id of the function that they belong to.</summary>
    public string FunctionId { get; init; } = "";

    /// <summary>By name, ascending.</summary>
    public IReadOnlyList<TriggerSnapshot> Triggers { get; init; } = [];
}

/// <summary>A timer that is due.</summary>
/// <param name="Trigger">The trigger.</param>
/// <param name="DueAt">The time that it was due.</param>
/// <param name="TaskId">Id of the task to submit: the same for every try of this firing.</param>
/// <param name="Skipped">Later times that are past too and are left out; 1,000 stands for more too.</param>
/// <param name="Late">How late it is.</param>
public sealed record Firing(TriggerSnapshot Trigger, DateTimeOffset DueAt, string TaskId, int Skipped, TimeSpan Late)
{
    /// <summary>Whether it makes up for a time when nothing of the platform ran.</summary>
    public bool CaughtUp => Skipped > 0 || Late > TriggerTable.Punctual;
}

/// <summary>What happens to triggers. Pure.</summary>
public static class TriggerTable
{
    /// <summary>Most triggers of a function.</summary>
    public const int MaxTriggers = 100;

    private const int MostSkipped = 1_000;

    /// <summary>A firing later than this had to be made up for: a silo's loss is made good within a minute.</summary>
    internal static readonly TimeSpan Punctual = TimeSpan.FromSeconds(90);

    /// <summary>Adds a trigger.</summary>
    public static (TriggersState Next, TriggerAnswer Answer) Create(TriggersState now, string functionId, TriggerSpec spec, string triggerId, DateTimeOffset at)
    {
        now = Of(now, functionId);
        if (now.Triggers.Any(trigger => trigger.Spec.Name == spec.Name))
        {
            return (now, new TriggerAnswer(TriggerChange.AlreadyExists));
        }

        if (now.Triggers.Count >= MaxTriggers)
        {
            return (now, new TriggerAnswer(TriggerChange.LimitReached));
        }

        return Put(now, new TriggerSnapshot { Spec = spec, TriggerId = triggerId, CreatedAt = at, ModifiedAt = at, Timer = spec.Timer is null ? null : new TimerStatus() }, at);
    }

    /// <summary>Replaces a trigger of the same name.</summary>
    public static (TriggersState Next, TriggerAnswer Answer) Update(TriggersState now, string functionId, TriggerSpec spec, DateTimeOffset at)
    {
        now = Of(now, functionId);
        return now.Triggers.FirstOrDefault(trigger => trigger.Spec.Name == spec.Name) is { } known
            ? Put(now, known with { Spec = spec, ModifiedAt = at }, at)
            : (now, new TriggerAnswer(TriggerChange.NotFound));
    }

    /// <summary>Removes a trigger.</summary>
    public static (TriggersState Next, TriggerAnswer Answer) Delete(TriggersState now, string functionId, string name)
    {
        now = Of(now, functionId);
        return now.Triggers.Any(trigger => trigger.Spec.Name == name)
            ? (now with { Triggers = [.. now.Triggers.Where(trigger => trigger.Spec.Name != name)] }, new TriggerAnswer(TriggerChange.Done))
            : (now, new TriggerAnswer(TriggerChange.NotFound));
    }

    /// <summary>The triggers if they are this function's; none if they were an earlier one's of its name.</summary>
    public static TriggersState Of(TriggersState now, string functionId) =>
        now.FunctionId == functionId ? now : new TriggersState { FunctionId = functionId };

    /// <summary>When the first timer is due, or null if none will be.</summary>
    public static DateTimeOffset? NextAt(TriggersState now) => now.Triggers.Min(trigger => trigger.Timer?.NextAt);

    /// <summary>Timers that are due. Of several missed times of one timer the first is made up for, the others are left out.</summary>
    public static IReadOnlyList<Firing> Due(TriggersState now, DateTimeOffset at) =>
    [
        .. now.Triggers.Where(trigger => trigger.Timer?.NextAt <= at).Select(trigger =>
        {
            var due = trigger.Timer!.NextAt!.Value;
            var schedule = TimerSchedule.Parse(trigger.Spec.Timer!.Expression);
            var skipped = 0;
            for (var next = schedule.Next(due, trigger.ModifiedAt); next <= at && skipped < MostSkipped; next = schedule.Next(next.Value, trigger.ModifiedAt))
            {
                skipped++;
            }

            return new Firing(trigger, due, TaskIdOf(trigger, due), skipped, at - due);
        }),
    ];

    /// <summary>After a firing was submitted durably.</summary>
    public static TriggersState Fired(TriggersState now, Firing firing, DateTimeOffset at) => Change(now, firing.Trigger, trigger => trigger with
    {
        Timer = trigger.Timer! with
        {
            NextAt = TimerSchedule.Parse(trigger.Spec.Timer!.Expression).Next(at, trigger.ModifiedAt),
            LastDueAt = firing.DueAt,
            LastFiredAt = at,
            LastTaskId = firing.TaskId,
            LastSkipped = firing.Skipped,
            CaughtUp = trigger.Timer.CaughtUp + (firing.CaughtUp ? 1 : 0),
            Skipped = trigger.Timer.Skipped + firing.Skipped,
            Error = "",
        },
    });

    /// <summary>After a firing came to nothing; it stays due.</summary>
    public static TriggersState NotFired(TriggersState now, Firing firing, string error) =>
        Change(now, firing.Trigger, trigger => trigger with { Timer = trigger.Timer! with { Error = error } });

    private static string TaskIdOf(TriggerSnapshot trigger, DateTimeOffset due)
    {
        // Whole within 128 characters, and of this trigger alone, also if another of its name comes later.
        var name = trigger.Spec.Name.Length <= 80 ? trigger.Spec.Name : trigger.Spec.Name[..80];
        return string.Create(CultureInfo.InvariantCulture, $"{name}-{trigger.TriggerId[..8]}-{due.UtcDateTime:yyyyMMdd'T'HHmmssfff}");
    }

    private static (TriggersState Next, TriggerAnswer Answer) Put(TriggersState now, TriggerSnapshot trigger, DateTimeOffset at)
    {
        if (trigger.Spec.Kind == TriggerKind.Http
            && now.Triggers.Any(other => other.Spec.Kind == TriggerKind.Http && other.Spec.Name != trigger.Spec.Name && other.Spec.Qualifier == trigger.Spec.Qualifier))
        {
            return (now, new TriggerAnswer(TriggerChange.SecondHttp));
        }

        if (trigger.Spec.Timer is { } timer)
        {
            try
            {
                var schedule = TimerSchedule.Parse(timer.Expression);
                trigger = trigger with { Timer = (trigger.Timer ?? new TimerStatus()) with { NextAt = timer.Enabled ? schedule.Next(at, at) : null, Error = "" } };
            }
            catch (FormatException e)
            {
                return (now, new TriggerAnswer(TriggerChange.BadSchedule, Message: e.Message));
            }
        }

        IEnumerable<TriggerSnapshot> others = now.Triggers.Where(other => other.Spec.Name != trigger.Spec.Name);
        return (now with { Triggers = [.. others.Append(trigger).OrderBy(other => other.Spec.Name, StringComparer.Ordinal)] }, new TriggerAnswer(TriggerChange.Done, trigger));
    }

    private static TriggersState Change(TriggersState now, TriggerSnapshot which, Func<TriggerSnapshot, TriggerSnapshot> change) =>
        now with { Triggers = [.. now.Triggers.Select(trigger => trigger.TriggerId == which.TriggerId && trigger.Timer is not null ? change(trigger) : trigger)] };
}
