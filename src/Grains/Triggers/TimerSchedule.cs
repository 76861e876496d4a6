using System.Globalization;
using System.Text.RegularExpressions;
using Cronos;

namespace GpuTasks.Triggers;

/// <summary>When a timer fires. Pure.</summary>
public sealed partial class TimerSchedule
{
    private static readonly TimeSpan ShortestPeriod = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LongestPeriod = TimeSpan.FromDays(366);

    private readonly TimeSpan period;
    private readonly CronExpression? cron;
    private readonly TimeZoneInfo zone = TimeZoneInfo.Utc;

    private TimerSchedule(TimeSpan period) => this.period = period;

    private TimerSchedule(CronExpression cron, TimeZoneInfo zone) => (this.cron, this.zone) = (cron, zone);

    /// <summary>Reads an expression.</summary>
    /// <exception cref="FormatException">It cannot be understood; the message says why and what is allowed.</exception>
    public static TimerSchedule Parse(string expression)
    {
        var text = expression.Trim();
        if (text.StartsWith("@every", StringComparison.Ordinal))
        {
            return new TimerSchedule(Period(text["@every".Length..].Trim()));
        }

        var zone = TimeZoneInfo.Utc;
        if (ZonePrefix().Match(text) is { Success: true } prefix)
        {
            text = text[prefix.Length..].Trim();
            zone = TimeZoneInfo.TryFindSystemTimeZoneById(prefix.Groups["zone"].Value, out var known)
                ? known
                : throw new FormatException("the time zone of CRON_TZ= is not known here; use a name such as Asia/Shanghai");
        }

        var fields = text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Length;
        if (text.StartsWith('@') || fields is not (5 or 6))
        {
            throw new FormatException("must be '@every 5m', or a cron expression of 5 fields, or of 6 with seconds first, with CRON_TZ=Zone in front if need be");
        }

        try
        {
            return new TimerSchedule(CronExpression.Parse(text, fields == 6 ? CronFormat.IncludeSeconds : CronFormat.Standard), zone);
        }
        catch (CronFormatException e)
        {
            throw new FormatException($"is no cron expression: {e.Message}");
        }
    }

    /// <summary>The first time after another, or null if there is none.</summary>
    /// <param name="after">Time.</param>
    /// <param name="anchor">Time that periods are counted from.</param>
    public DateTimeOffset? Next(DateTimeOffset after, DateTimeOffset anchor)
    {
        if (cron is not null)
        {
            return cron.GetNextOccurrence(after.UtcDateTime, zone) is { } next ? new DateTimeOffset(next, TimeSpan.Zero) : null;
        }

        var periods = after < anchor ? 1 : ((after - anchor).Ticks / period.Ticks) + 1;
        return anchor + (period * periods);
    }

    private static TimeSpan Period(string text)
    {
        var match = Duration().Match(text);
        if (!match.Success || text.Length == 0)
        {
            throw new FormatException("after @every there must be a time such as 30s, 5m or 1h30m");
        }

        var period = Part("h", TimeSpan.FromHours(1)) + Part("m", TimeSpan.FromMinutes(1)) + Part("s", TimeSpan.FromSeconds(1));
        return period >= ShortestPeriod && period <= LongestPeriod
            ? period
            : throw new FormatException("the time after @every must be from 1s to 8784h");

        TimeSpan Part(string unit, TimeSpan one) => match.Groups[unit] is { Success: true } group
            ? one * Math.Min(double.Parse(group.Value, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture), 1e6)
            : TimeSpan.Zero;
    }

    [GeneratedRegex(@"^(?:CRON_)?TZ=(?<zone>\S{1,64})\s+", RegexOptions.CultureInvariant)]
    private static partial Regex ZonePrefix();

    [GeneratedRegex(@"^(?:(?<h>\d{1,7}(?:\.\d{1,6})?)h)?(?:(?<m>\d{1,7}(?:\.\d{1,6})?)m)?(?:(?<s>\d{1,7}(?:\.\d{1,6})?)s)?$", RegexOptions.CultureInvariant)]
    private static partial Regex Duration();
}
