using System.Text.Json;
using GpuTasks.Dispatch;
using GpuTasks.Functions;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>ProvisionConfig, ScalingConfigStatus and ConcurrencyConfig as the contract writes them (1.3).</summary>
internal static class CapacityJson
{
    public static void WriteConcurrency(Utf8JsonWriter json, string arn, int reserved)
    {
        json.WriteStartObject();
        json.WriteString("functionArn", arn);
        json.WriteNumber("reservedConcurrency", reserved);
        json.WriteEndObject();
    }

    /// <summary>Without a config everything is there and empty, since clients read it before they ever put one.</summary>
    public static void WriteProvision(Utf8JsonWriter json, string arn, ProvisionConfig? config, CapacityView view)
    {
        var target = config is null ? 0 : view.ProvisionTarget;
        json.WriteStartObject();
        json.WriteString("functionArn", arn);
        json.WriteNumber("defaultTarget", config?.Plan.Target ?? 0);
        json.WriteNumber("target", target);
        json.WriteNumber("current", Math.Min(view.Ready, target));
        json.WriteString("currentError", view.Ready >= target ? "" : view.Error);
        json.WriteBoolean("alwaysAllocateCPU", config?.AlwaysAllocateCpu ?? false);
        json.WriteBoolean("alwaysAllocateGPU", config?.AlwaysAllocateGpu ?? false);
        WriteSchedules(json, "scheduledActions", config?.Plan);
        WritePolicies(json, "targetTrackingPolicies", "minCapacity", "maxCapacity", config?.Plan);
        json.WriteEndObject();
    }

    /// <summary>As with provision configs.</summary>
    public static void WriteScaling(Utf8JsonWriter json, string arn, ScalingConfig? config, CapacityView view)
    {
        var target = config is null ? 0 : view.ScalingTarget;
        json.WriteStartObject();
        json.WriteString("functionArn", arn);
        json.WriteNumber("minInstances", config?.Plan.Target ?? 0);
        json.WriteNumber("targetInstances", target);
        json.WriteNumber("currentInstances", config is null ? 0 : view.Ready);
        json.WriteString("currentError", view.Ready >= target ? "" : view.Error);
        json.WriteBoolean("enableOnDemandScaling", config?.OnDemand ?? true);
        json.WriteBoolean("enableMixMode", false);
        json.WriteString("residentPoolId", "");
        json.WriteString("requestDispatchPolicy", config is { Balanced: true } ? "Balanced" : "");
        WriteSchedules(json, "scheduledPolicies", config?.Plan);
        WritePolicies(json, "horizontalScalingPolicies", "minInstances", "maxInstances", config?.Plan);
        json.WriteEndObject();
    }

    private static void WriteSchedules(Utf8JsonWriter json, string name, InstancePlan? plan)
    {
        json.WriteStartArray(name);
        foreach (var schedule in plan?.Schedules ?? [])
        {
            json.WriteStartObject();
            json.WriteString("name", schedule.Name);
            json.WriteString("scheduleExpression", schedule.Expression);
            json.WriteNumber("target", schedule.Target);
            WritePeriod(json, schedule.Period);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WritePolicies(Utf8JsonWriter json, string name, string least, string most, InstancePlan? plan)
    {
        json.WriteStartArray(name);
        foreach (var policy in plan?.Policies ?? [])
        {
            json.WriteStartObject();
            json.WriteString("name", policy.Name);
            json.WriteString("metricType", policy.Metric);
            json.WriteNumber("metricTarget", policy.Target);
            json.WriteNumber(least, policy.Min);
            json.WriteNumber(most, policy.Max);
            WritePeriod(json, policy.Period);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WritePeriod(Utf8JsonWriter json, PlanPeriod period)
    {
        foreach (var (name, text) in ((string, string?)[])[("startTime", period.FromText), ("endTime", period.UntilText), ("timeZone", period.TimeZone)])
        {
            if (!string.IsNullOrEmpty(text))
            {
                json.WriteString(name, text);
            }
        }
    }
}
