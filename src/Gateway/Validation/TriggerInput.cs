using System.Text.Json;
using GpuTasks.Gateway.Http;
using GpuTasks.Triggers;

namespace GpuTasks.Gateway.Validation;

/// <summary>Reads and checks TriggerInput (contract 1.3, 7). Pure, but for schedules, which their grain judges.</summary>
internal static class TriggerInput
{
    private const int MaxConfig = 65_536;
    private const int MaxPayload = 32_768;

    /// <summary>Types of the contract that need a system outside of the platform.</summary>
    private static readonly string[] NeedOthers = ["oss", "log", "tablestore", "cdn_events", "mns_topic", "eventbridge"];

    /// <summary>A new trigger.</summary>
    public static TriggerSpec Create(JsonElement body, Func<string?, string> qualifier)
    {
        var faults = new Faults();
        var fields = new JsonFields(body, faults);
        var name = fields.Text("triggerName", 128, Names.IsName, Names.FunctionRule);
        var type = fields.Text("triggerType", 64, text => text is "timer" or "http", NeedOthers.Contains(TypeOf(fields))
            ? "must be timer or http; other types need systems that are not connected here"
            : "must be timer or http");
        foreach (var required in new[] { "triggerName", "triggerType", "triggerConfig" })
        {
            if (!fields.Has(required))
            {
                faults.Add(required, "is required");
            }
        }

        var spec = Merge(fields, new TriggerSpec { Name = name ?? "", Kind = type == "http" ? TriggerKind.Http : TriggerKind.Timer, Config = "{}" });
        faults.Throw();
        return spec with { Qualifier = qualifier(fields.Text("qualifier", 128)) };
    }

    /// <summary>A trigger with the named fields changed. Name and type cannot change.</summary>
    public static TriggerSpec Update(JsonElement body, TriggerSpec now, Func<string?, string> qualifier)
    {
        var faults = new Faults();
        var fields = new JsonFields(body, faults);
        var spec = Merge(fields, now);
        var named = fields.Text("qualifier", 128);
        faults.Throw();
        return named is null ? spec : spec with { Qualifier = qualifier(named) };
    }

    /// <summary>What an HTTP trigger allows, of a config that was checked when it was put.</summary>
    public static HttpTriggerConfig ReadHttp(TriggerSpec spec)
    {
        using var document = JsonDocument.Parse(spec.Config);
        return HttpTriggerConfig.Read(new JsonFields(document.RootElement, new Faults()));
    }

    private static string TypeOf(JsonFields fields) => fields.WithFaults(new Faults()).Text("triggerType") ?? "";

    private static TriggerSpec Merge(JsonFields fields, TriggerSpec now)
    {
        var spec = now with
        {
            Description = fields.Text("description", 256) ?? now.Description,
            SourceArn = fields.Text("sourceArn", 256) ?? now.SourceArn,
            InvocationRole = fields.Text("invocationRole", 256) ?? now.InvocationRole,
        };
        if (fields.Text("triggerConfig", MaxConfig, rule: $"must be a string that holds JSON, of at most {MaxConfig} characters") is not { } config)
        {
            return spec;
        }

        var faults = fields.Faults;
        JsonDocument document;
        try
        {
            document = JsonBody.Parse(System.Text.Encoding.UTF8.GetBytes(config));
        }
        catch (ApiException e)
        {
            faults.Add("triggerConfig", $"must be a string that holds a JSON object: {e.Message}");
            return spec;
        }

        using (document)
        {
            var inner = new JsonFields(document.RootElement, faults, "triggerConfig.");
            spec = spec with { Config = config };
            if (spec.Kind == TriggerKind.Http)
            {
                HttpTriggerConfig.Read(inner);
                return spec;
            }

            var expression = inner.Text("cronExpression", 256);
            if (expression is null && !inner.Has("cronExpression"))
            {
                faults.Add(inner.PathOf("cronExpression"), "is required");
            }

            return spec with
            {
                Timer = new TimerSpec
                {
                    Expression = expression ?? "",
                    Enabled = inner.Flag("enable") ?? true,
                    Payload = inner.Text("payload", MaxPayload) ?? "",
                },
            };
        }
    }
}
