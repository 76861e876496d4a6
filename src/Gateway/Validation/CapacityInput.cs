using System.Globalization;
using System.Text.Json;
using Cronos;
using GpuTasks.Functions;

namespace GpuTasks.Gateway.Validation;

/// <summary>Reads and checks ProvisionConfigInput, ScalingConfigInput and ConcurrencyInput (contract 1.3). Pure.</summary>
internal static class CapacityInput
{
    private const int MaxInstances = 10_000;
    private const int MaxConcurrency = 1_000_000;
    private const int MaxRules = 100;

    /// <summary>The one metric that can be followed: use of processors or GPU memory inside an instance is not known here.</summary>
    private const string Followed = "ProvisionedConcurrencyUtilization";

    public static int Concurrency(JsonElement body)
    {
        var fields = new JsonFields(body, new Faults());
        var reserved = fields.Integer("reservedConcurrency", 0, MaxConcurrency);
        Require(fields, "reservedConcurrency");
        fields.Faults.Throw();
        return reserved!.Value;
    }

    public static ProvisionConfig Provision(JsonElement body)
    {
        var fields = new JsonFields(body, new Faults());
        var config = new ProvisionConfig
        {
            Plan = new InstancePlan(
                fields.Integer("defaultTarget", 0, MaxInstances) ?? fields.Integer("target", 0, MaxInstances) ?? 0,
                Schedules(fields, "scheduledActions"),
                Policies(fields, "targetTrackingPolicies", "minCapacity", "maxCapacity")),
            AlwaysAllocateCpu = fields.Flag("alwaysAllocateCPU") ?? false,
            AlwaysAllocateGpu = fields.Flag("alwaysAllocateGPU") ?? false,
        };
        fields.Faults.Throw();
        return config;
    }

    public static ScalingConfig Scaling(JsonElement body)
    {
        var fields = new JsonFields(body, new Faults());
        if (fields.Text("residentPoolId", 256) is { Length: > 0 })
        {
            fields.Faults.Add("residentPoolId", "must be empty, since this platform has no resident pools");
        }

        if (fields.Flag("enableMixMode") == true)
        {
            fields.Faults.Add("enableMixMode", "must be false, since this platform has no resident pools to mix with");
        }

        var policy = fields.Text("requestDispatchPolicy", 64, text => text is "" or "Balanced", "must be 'Balanced' or empty");
        var config = new ScalingConfig
        {
            Plan = new InstancePlan(
                fields.Integer("minInstances", 0, MaxInstances) ?? 0,
                Schedules(fields, "scheduledPolicies"),
                Policies(fields, "horizontalScalingPolicies", "minInstances", "maxInstances")),
            OnDemand = fields.Flag("enableOnDemandScaling") ?? true,
            Balanced = policy == "Balanced",
        };
        fields.Faults.Throw();
        return config;
    }

    private static List<ScheduledTarget> Schedules(JsonFields fields, string name)
    {
        var schedules = new List<ScheduledTarget>();
        foreach (var item in fields.Objects(name, MaxRules) ?? [])
        {
            foreach (var field in (string[])["name", "scheduleExpression", "target"])
            {
                Require(item, field);
            }

            var period = Period(item);
            var text = item.Text("scheduleExpression", 256) ?? "";
            var (cron, at) = Expression(item, text, period.TimeZone);
            schedules.Add(new ScheduledTarget(item.Text("name", 128) ?? "", text, cron, at, item.Integer("target", 0, MaxInstances) ?? 0, period));
        }

        return schedules;
    }

    private static List<TrackingPolicy> Policies(JsonFields fields, string name, string least, string most)
    {
        var policies = new List<TrackingPolicy>();
        foreach (var item in fields.Objects(name, MaxRules) ?? [])
        {
            foreach (var field in (string[])["name", "metricType", "metricTarget", least, most])
            {
                Require(item, field);
            }

            var metric = item.Text("metricType", 64, text => text == Followed, $"must be {Followed}; no other metric can be followed by this platform");
            var min = item.Integer(least, 0, MaxInstances) ?? 0;
            var max = item.Integer(most, 0, MaxInstances) ?? MaxInstances;
            if (max < min)
            {
                item.Faults.Add(item.PathOf(most), $"must be at least {least}, {min}, was {max}");
            }

            policies.Add(new TrackingPolicy(item.Text("name", 128) ?? "", metric ?? "", item.Steps("metricTarget", 0.001, 1, 1_000) ?? 1, min, Math.Max(min, max), Period(item)));
        }

        return policies;
    }

    private static PlanPeriod Period(JsonFields item)
    {
        var zone = item.Text("timeZone", 64, text => text.Length == 0 || TimeZoneInfo.TryFindSystemTimeZoneById(text, out _), "must be a time zone such as Asia/Shanghai");
        zone = zone is { Length: > 0 } ? zone : null;
        var (from, until) = (item.Text("startTime", 64), item.Text("endTime", 64));
        var period = new PlanPeriod(Moment(item, "startTime", from, zone), Moment(item, "endTime", until, zone), from, until, zone);
        if (period.Until <= period.From)
        {
            item.Faults.Add(item.PathOf("endTime"), "must be after startTime");
        }

        return period;
    }

    private static (string? Cron, DateTimeOffset? At) Expression(JsonFields item, string text, string? zone)
    {
        if (text.StartsWith("cron(", StringComparison.Ordinal) && text.EndsWith(')')
            && CronExpression.TryParse(text[5..^1], CronFormat.IncludeSeconds, out _))
        {
            return (text[5..^1], null);
        }

        if (text.StartsWith("at(", StringComparison.Ordinal) && text.EndsWith(')') && TryMoment(text[3..^1], zone, out var at))
        {
            return (null, at);
        }

        if (text.Length > 0)
        {
            item.Faults.Add(item.PathOf("scheduleExpression"), "must be cron(...) with six fields, seconds first, or at(YYYY-MM-DDThh:mm:ssZ)");
        }

        return (null, null);
    }

    private static DateTimeOffset? Moment(JsonFields item, string name, string? text, string? zone)
    {
        if (string.IsNullOrEmpty(text))
        {
            return null;
        }

        if (TryMoment(text, zone, out var moment))
        {
            return moment;
        }

        item.Faults.Add(item.PathOf(name), "must be a time such as 2026-01-31T10:00:00Z");
        return null;
    }

    /// <summary>A time without an offset is one of the named zone.</summary>
    private static bool TryMoment(string text, string? zone, out DateTimeOffset moment)
    {
        moment = default;
        if (!DateTime.TryParse(text, CultureInfo.InvariantCulture, DateTimeStyles.RoundtripKind, out var time) || text.Length < 19)
        {
            return false;
        }

        if (time.Kind != DateTimeKind.Unspecified)
        {
            moment = new DateTimeOffset(time).ToUniversalTime();
            return true;
        }

        var where = TimeZoneInfo.Utc;
        if (zone is not null && !TimeZoneInfo.TryFindSystemTimeZoneById(zone, out where))
        {
            return false;
        }

        if (where.IsInvalidTime(time))
        {
            return false;
        }

        moment = new DateTimeOffset(time, where.GetUtcOffset(time)).ToUniversalTime();
        return true;
    }

    private static void Require(JsonFields fields, string name)
    {
        if (!fields.Has(name))
        {
            fields.Faults.Add(fields.PathOf(name), "is required");
        }
    }
}
