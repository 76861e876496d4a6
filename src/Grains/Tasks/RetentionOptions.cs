using System.ComponentModel.DataAnnotations;

namespace GpuTasks.Tasks;

/// <summary>How long ended tasks are kept, with their payloads and results. Configuration section <c>GpuTasks:Retention</c>.</summary>
public sealed class RetentionOptions
{
    /// <summary>Configuration section.</summary>
    public const string Section = "GpuTasks:Retention";

    /// <summary>Days that a recorded task is kept after its end, a dead letter after it was given up, and a message in a topic: 0 (for ever) to 3,650, default 7; fractions are allowed.</summary>
    [Range(0d, 3_650d)]
    public double Days { get; set; } = 7;

    /// <summary>Hours that an asynchronous call without task mode, which nobody can see, is kept after its end: 0 (for ever) to 87,600, default 1.</summary>
    [Range(0d, 87_600d)]
    public double UnrecordedHours { get; set; } = 1;

    /// <summary>Days that an entry of the audit log is kept: 1 to 3,650, default 90.</summary>
    [Range(1, 3_650)]
    public int AuditDays { get; set; } = 90;

    /// <summary>Messages that an internal topic keeps, the latest, besides being bounded by <see cref="Days"/>: 100 to 10,000,000, default 10,000.</summary>
    [Range(100, 10_000_000)]
    public int TopicMessages { get; set; } = 10_000;

    /// <summary>Most tasks deleted by one statement: 1 to 5,000, default 500.</summary>
    [Range(1, 5_000)]
    public int BatchRows { get; set; } = 500;

    /// <summary>How often it is looked whether something is to be deleted: 1 s to 3,600 s, default 60 s.</summary>
    [Range(1, 3_600)]
    public int PeriodSeconds { get; set; } = 60;

    /// <summary>How long a task is kept after its end, or null for ever.</summary>
    /// <param name="recorded">A recorded task, or an asynchronous call without task mode.</param>
    public TimeSpan? KeptFor(bool recorded) => recorded
        ? Days > 0 ? TimeSpan.FromDays(Days) : null
        : UnrecordedHours > 0 ? TimeSpan.FromHours(UnrecordedHours) : null;
}
