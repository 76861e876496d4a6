using System.Text.Json;
using GpuTasks.Functions;

namespace GpuTasks.Gateway.Validation;

/// <summary>Reads and checks AsyncInvokeConfigInput (contract 1.3, 3). Pure.</summary>
internal static class AsyncConfigInput
{
    /// <summary>A config with the named fields changed; an unnamed field keeps its value, at first its default.</summary>
    public static AsyncInvokeConfig Merge(JsonElement body, AsyncInvokeConfig? now)
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
                OnSuccess = Destination(destinations, "onSuccess"),
                OnFailure = Destination(destinations, "onFailure"),
            };
        }

        faults.Throw();
        return config;
    }

    private static string? Destination(JsonFields destinations, string name)
    {
        var fields = destinations.Object(name);
        var target = fields?.Text("destination");
        if (string.IsNullOrEmpty(target))
        {
            return null;
        }

        RefuseDestinationUntilSupported(fields!);
        return target;
    }

    /// <summary>The one place that keeps destinations out; everything behind it carries them already.</summary>
    private static void RefuseDestinationUntilSupported(JsonFields fields) =>
        fields.Faults.Add(fields.PathOf("destination"), "destinations are not supported yet; leave it out");
}
