using System.Text.Json;
using GpuTasks.Destinations;
using GpuTasks.Functions;

namespace GpuTasks.Gateway.Validation;

/// <summary>Reads and checks AsyncInvokeConfigInput (contract 1.3, 3). Pure.</summary>
internal static class AsyncConfigInput
{
    /// <summary>A config with the named fields changed; an unnamed field keeps its value, at first its default.</summary>
    public static AsyncInvokeConfig Merge(JsonElement body, AsyncInvokeConfig? now, string account)
    {
        var faults = new Faults();
        var fields = new JsonFields(body, faults);
        now ??= new AsyncInvokeConfig();
        var config = now with
        {
            TaskMode = fields.Flag("asyncTask") ?? now.TaskMode,
            MaxRetryAttempts = fields.Integer("maxAsyncRetryAttempts", 0, 8) ?? now.MaxRetryAttempts,
            MaxEventAgeSeconds = fields.Integer("maxAsyncEventAgeInSeconds", 1, 604_800) ?? now.MaxEventAgeSeconds,
        };
        if (fields.Object("destinationConfig") is { } destinations)
        {
            // An empty object means "no destinations", so what is not named inside goes.
            config = config with
            {
                OnSuccess = Destination(destinations, "onSuccess", account),
                OnFailure = Destination(destinations, "onFailure", account),
            };
        }

        faults.Throw();
        return config;
    }

    private static string? Destination(JsonFields destinations, string name, string account)
    {
        var fields = destinations.Object(name);
        var target = fields?.Text("destination", DestinationTarget.MaxLength);
        if (string.IsNullOrEmpty(target))
        {
            return null;
        }

        if (!DestinationTarget.TryParse(target, out var parsed))
        {
            fields!.Faults.Add(
                fields.PathOf("destination"),
                "must be a function as acs:fc:{region}:{account}:functions/{name}, a webhook as https://..., or an internal topic as topic:{name}; other queues and event buses are not supported");
        }
        else if (parsed.Account.Length > 0 && parsed.Account != account)
        {
            fields!.Faults.Add(fields.PathOf("destination"), "must be of your own account");
        }

        return target;
    }
}
