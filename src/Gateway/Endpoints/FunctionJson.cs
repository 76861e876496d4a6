using System.Globalization;
using System.Text.Json;
using GpuTasks.Functions;
using GpuTasks.Gateway.Validation;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>Functions and their async configs as the contract writes them (1.3). Secrets stay here.</summary>
internal static class FunctionJson
{
    /// <summary>ISO 8601, UTC, whole seconds.</summary>
    public static string Time(DateTimeOffset time) => time.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture);

    /// <summary>Changes with every change of the definition; an image has no checksum that we could know before it is pulled.</summary>
    public static string Checksum(FunctionSnapshot function) => function.SpecRevision.ToString(CultureInfo.InvariantCulture);

    public static void WriteFunction(Utf8JsonWriter json, FunctionSnapshot function, GatewayOptions options, FunctionHealth? health = null)
    {
        var spec = function.Spec;
        json.WriteStartObject();
        json.WriteString("functionName", spec.Name);
        json.WriteString("functionId", function.FunctionId);
        json.WriteString("functionArn", Arn.Function(options, function.Account, spec.Name, function.Version ?? Names.Latest));
        json.WriteString("description", spec.Description);
        json.WriteString("runtime", spec.Runtime);
        json.WriteString("handler", spec.Handler);
        json.WriteNumber("cpu", spec.Cpu);
        json.WriteNumber("memorySize", spec.MemoryMiB);
        json.WriteNumber("diskSize", spec.DiskMiB);
        if (spec.Gpu is { } gpu)
        {
            json.WriteStartObject("gpuConfig");
            json.WriteString("gpuType", gpu.Type);
            json.WriteNumber("gpuMemorySize", gpu.MemoryMiB);
            json.WriteEndObject();
        }

        json.WriteNumber("timeout", spec.TimeoutSeconds);
        json.WriteNumber("instanceConcurrency", spec.InstanceConcurrency);
        if (spec.IdleTimeoutSeconds is { } idle)
        {
            json.WriteNumber("idleTimeout", idle);
        }

        if (spec.InternetAccess is { } internet)
        {
            json.WriteBoolean("internetAccess", internet);
        }

        if (spec.NodeLostTimeoutSeconds != new FunctionSpec { Name = "", Container = spec.Container }.NodeLostTimeoutSeconds)
        {
            json.WriteNumber("nodeLostTimeout", spec.NodeLostTimeoutSeconds);
        }

        json.WriteStartObject("environmentVariables");
        foreach (var (name, value) in spec.Environment)
        {
            json.WriteString(name, FunctionInput.IsSecret(name) ? FunctionInput.Hidden : value);
        }

        json.WriteEndObject();
        WriteContainer(json, spec, function.ResolvedImage);
        json.WriteStartArray("tags");
        foreach (var (key, value) in spec.Tags)
        {
            json.WriteStartObject();
            json.WriteString("Key", key);
            json.WriteString("Value", value);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        WriteStored(json, spec);
        WriteTexts(json, "storedOnly", FunctionInput.WithoutEffect(spec));
        json.WriteString("createdTime", Time(function.CreatedAt));
        json.WriteString("lastModifiedTime", Time(function.ModifiedAt));
        json.WriteNumber("codeSize", 0);
        json.WriteString("codeChecksum", Checksum(function));

        if (function.Restriction is { } restriction)
        {
            json.WriteStartObject("invocationRestriction");
            json.WriteBoolean("disable", restriction.Disabled);
            json.WriteString("reason", restriction.Reason);
            json.WriteString("lastModifiedTime", Time(restriction.ModifiedAt));
            json.WriteEndObject();
        }

        (health ?? FunctionHealth.Active).Write(json, function);
        json.WriteEndObject();
    }

    public static void WriteAsyncConfig(Utf8JsonWriter json, FunctionSnapshot function, string qualifier, AsyncInvokeConfig config, GatewayOptions options)
    {
        json.WriteStartObject();
        json.WriteString("functionArn", Arn.Function(options, function.Account, function.Spec.Name, qualifier));
        json.WriteBoolean("asyncTask", config.TaskMode);
        json.WriteNumber("maxAsyncRetryAttempts", config.MaxRetryAttempts);
        json.WriteNumber("maxAsyncEventAgeInSeconds", config.MaxEventAgeSeconds);
        json.WriteStartObject("destinationConfig");
        WriteDestination(json, "onSuccess", config.OnSuccess);
        WriteDestination(json, "onFailure", config.OnFailure);
        json.WriteEndObject();
        json.WriteString("createdTime", Time(config.CreatedAt));
        json.WriteString("lastModifiedTime", Time(config.ModifiedAt));
        json.WriteEndObject();
    }

    private static void WriteDestination(Utf8JsonWriter json, string name, string? target)
    {
        if (target is not null)
        {
            json.WriteStartObject(name);
            json.WriteString("destination", target);
            json.WriteEndObject();
        }
    }

    private static void WriteContainer(Utf8JsonWriter json, FunctionSpec spec, string? resolvedImage)
    {
        var container = spec.Container;
        json.WriteStartObject("customContainerConfig");
        json.WriteString("image", container.Image);
        json.WriteString("resolvedImageUri", resolvedImage ?? container.Image);
        json.WriteNumber("port", container.Port);
        WriteTexts(json, "entrypoint", container.Entrypoint);
        WriteTexts(json, "command", container.Command);
        if (container.HealthCheck is { } check)
        {
            json.WriteStartObject("healthCheckConfig");
            json.WriteString("httpGetUrl", check.HttpGetUrl);
            json.WriteNumber("initialDelaySeconds", check.InitialDelaySeconds);
            json.WriteNumber("periodSeconds", check.PeriodSeconds);
            json.WriteNumber("timeoutSeconds", check.TimeoutSeconds);
            json.WriteNumber("failureThreshold", check.FailureThreshold);
            json.WriteNumber("successThreshold", check.SuccessThreshold);
            json.WriteEndObject();
        }

        var cert = spec.StoredFields.GetValueOrDefault(FunctionInput.StoredCertConfig);
        var network = spec.StoredFields.GetValueOrDefault(FunctionInput.StoredNetworkConfig);
        if (container.RegistryUser is not null || cert is not null || network is not null)
        {
            json.WriteStartObject("registryConfig");
            if (container.RegistryUser is not null)
            {
                json.WriteStartObject("authConfig");
                json.WriteString("userName", container.RegistryUser);
                json.WriteEndObject();
            }

            WriteRaw(json, "certConfig", cert);
            WriteRaw(json, "networkConfig", network);
            json.WriteEndObject();
        }

        WriteRaw(json, "acrInstanceId", spec.StoredFields.GetValueOrDefault(FunctionInput.StoredAcrInstanceId));
        WriteRaw(json, "accelerationType", spec.StoredFields.GetValueOrDefault(FunctionInput.StoredAccelerationType));
        json.WriteEndObject();
    }

    private static void WriteStored(Utf8JsonWriter json, FunctionSpec spec)
    {
        foreach (var (name, text) in spec.StoredFields)
        {
            if (name == "layers")
            {
                WriteLayers(json, text);
            }
            else if (!name.StartsWith("customContainerConfig.", StringComparison.Ordinal))
            {
                WriteRaw(json, name, text);
            }
        }
    }

    /// <summary>Names come in, objects go out (contract 1.3).</summary>
    private static void WriteLayers(Utf8JsonWriter json, string text)
    {
        using var layers = JsonDocument.Parse(text);
        json.WriteStartArray("layers");
        foreach (var layer in layers.RootElement.EnumerateArray())
        {
            if (layer.ValueKind == JsonValueKind.String)
            {
                json.WriteStartObject();
                json.WriteString("arn", layer.GetString());
                json.WriteNumber("size", 0);
                json.WriteEndObject();
            }
            else
            {
                layer.WriteTo(json);
            }
        }

        json.WriteEndArray();
    }

    private static void WriteTexts(Utf8JsonWriter json, string name, IEnumerable<string> texts)
    {
        json.WriteStartArray(name);
        foreach (var text in texts)
        {
            json.WriteStringValue(text);
        }

        json.WriteEndArray();
    }

    private static void WriteRaw(Utf8JsonWriter json, string name, string? text)
    {
        if (text is not null)
        {
            json.WritePropertyName(name);
            json.WriteRawValue(text, skipInputValidation: true);
        }
    }
}
