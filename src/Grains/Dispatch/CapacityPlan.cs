using Cronos;
using GpuTasks.Functions;

namespace GpuTasks.Dispatch;

/// <summary>How many instances a plan asks for. No clock, no I/O.</summary>
public static class CapacityPlan
{
    /// <summary>
    /// The number at a moment: that of the schedule that fired last within its period, else the plan's own; policies by
    /// use, while one counts, take the place of the plan's own number and never fall below a schedule's.
    /// </summary>
    /// <param name="plan">Plan.</param>
    /// <param name="now">The moment.</param>
    /// <param name="slotsInUse">Most slots in use over the last minutes, so that instances do not leave in each pause.</param>
    /// <param name="concurrency">Slots of one instance.</param>
    public static int TargetAt(InstancePlan plan, DateTimeOffset now, int slotsInUse, int concurrency)
    {
        var scheduled = Scheduled(plan, now);
        int? tracked = null;
        foreach (var policy in plan.Policies.Where(policy => policy.Period.Contains(now)))
        {
            var wanted = (int)Math.Min(int.MaxValue, Math.Ceiling(slotsInUse / (concurrency * policy.Target)));
            tracked = Math.Max(tracked ?? 0, Math.Clamp(wanted, policy.Min, policy.Max));
        }

        return tracked is { } byUse ? Math.Max(byUse, scheduled ?? 0) : scheduled ?? plan.Target;
    }

    private static int? Scheduled(InstancePlan plan, DateTimeOffset now)
    {
        DateTimeOffset? latest = null;
        int? target = null;
        foreach (var schedule in plan.Schedules)
        {
            if (schedule.Period.Contains(now) && FiredLast(schedule, now) is { } at && !(at < schedule.Period.From) && !(at < latest))
            {
                (latest, target) = (at, schedule.Target);
            }
        }

        return target;
    }

    private static DateTimeOffset? FiredLast(ScheduledTarget schedule, DateTimeOffset now)
    {
        if (schedule.At is { } once)
        {
            return once <= now ? once : null;
        }

        var zone = schedule.Period.TimeZone is { } name ? TimeZoneInfo.FindSystemTimeZoneById(name) : TimeZoneInfo.Utc;
        return CronExpression.Parse(schedule.Cron!, CronFormat.IncludeSeconds).GetPreviousOccurrence(now, zone, inclusive: true);
    }
}
