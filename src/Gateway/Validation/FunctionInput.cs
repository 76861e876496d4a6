using System.Text;
using System.Text.Json;
using GpuTasks.Functions;

namespace GpuTasks.Gateway.Validation;

/// <summary>Reads and checks CreateFunctionInput and UpdateFunctionInput (contract 1.3, 6). Pure.</summary>
internal static class FunctionInput
{
    /// <summary>The runtime of every function here.</summary>
    private const string Runtime = "custom-container";

    private const double MinCpu = 0.05;
    private const double MaxCpu = 16;
    private const int MinMemoryMiB = 128;
    private const int MaxMemoryMiB = 32_768;
    private const int MaxGpuFunctionMemoryMiB = 98_304;
    private const int MaxGpuMemoryMiB = 2_949_120;
    private const int MaxEnvironmentBytes = 4_096;
    private const int MaxStoredCharacters = 65_536;
    private const int DefaultInitializerSeconds = 60;
    private const int DefaultPreStopSeconds = 30;

    /// <summary>
    /// Fields that are only stored and given back, with the kind that clients can read. <c>instanceLifecycleConfig</c> is
    /// also read for the hooks.
    /// </summary>
    private static readonly (string Name, JsonValueKind Kind)[] StoredOnly =
    [
        ("role", JsonValueKind.String),
        ("layers", JsonValueKind.Array),
        ("code", JsonValueKind.Object),
        ("logConfig", JsonValueKind.Object),
        ("nasConfig", JsonValueKind.Object),
        ("ossMountConfig", JsonValueKind.Object),
        ("vpcConfig", JsonValueKind.Object),
        ("customDNS", JsonValueKind.Object),
        ("tracingConfig", JsonValueKind.Object),
        ("customRuntimeConfig", JsonValueKind.Object),
        ("sessionAffinity", JsonValueKind.String),
        ("sessionAffinityConfig", JsonValueKind.String),
        ("instanceIsolationMode", JsonValueKind.String),
        ("disableInjectCredentials", JsonValueKind.String),
        ("juiceFsConfig", JsonValueKind.Object),
        ("polarFsConfig", JsonValueKind.Object),
        ("instanceLifecycleConfig", JsonValueKind.Object),
    ];

    /// <summary>Switches of the contract that nothing here could follow.</summary>
    private static readonly (string Name, string Instead)[] NotOffered =
    [
        ("disableOndemand", ": a scaling config with enableOnDemandScaling false does it"),
        ("enableLongLiving", ", since instances here stay as long as they have work or a config keeps them"),
    ];

    public const string StoredAcrInstanceId = "customContainerConfig.acrInstanceId";
    public const string StoredAccelerationType = "customContainerConfig.accelerationType";
    public const string StoredCertConfig = "customContainerConfig.registryConfig.certConfig";
    public const string StoredNetworkConfig = "customContainerConfig.registryConfig.networkConfig";

    /// <summary>Stands in answers for the value of an environment variable that is secret.</summary>
    public const string Hidden = "******";

    /// <summary>Whether an environment variable is marked secret, by its name: no SDK could send another mark.</summary>
    public static bool IsSecret(string variable) => variable.StartsWith("SECRET_", StringComparison.Ordinal);

    /// <summary>Fields of a definition that are set and without effect here.</summary>
    public static IEnumerable<string> WithoutEffect(FunctionSpec spec) =>
        spec.StoredFields.Where(field => field.Key is not "instanceLifecycleConfig" and not StoredCertConfig && field.Value is not ("{}" or "[]" or "\"\"" or "null")).Select(field => field.Key).Order(StringComparer.Ordinal);

    /// <summary>A new definition.</summary>
    public static FunctionSpec Create(JsonElement body)
    {
        var faults = new Faults();
        var fields = new JsonFields(body, faults);
        var name = fields.Text("functionName", 128, Names.IsName, Names.FunctionRule);
        Require(fields, "functionName");
        Require(fields, "runtime");
        Require(fields, "customContainerConfig");
        var blank = new FunctionSpec { Name = name ?? "", Handler = "index.handler", Container = new ContainerSpec { Image = "" } };
        var spec = Merge(fields, FitResources(fields, blank)) with
        {
            Tags = TagInput.Read(fields, "tags") ?? blank.Tags,
        };
        if (fields.Raw("resourceGroupId", JsonValueKind.String) is { } group)
        {
            spec = spec with { StoredFields = new Dictionary<string, string>(spec.StoredFields) { ["resourceGroupId"] = group } };
        }

        faults.Throw();
        Check(spec, faults);
        return spec;
    }

    /// <summary>A definition with the named fields changed. Name, tags and resource group cannot change this way.</summary>
    public static FunctionSpec Update(JsonElement body, FunctionSpec now)
    {
        var faults = new Faults();
        var spec = Merge(new JsonFields(body, faults), now);
        faults.Throw();
        Check(spec, faults);
        return spec;
    }

    private static void Require(JsonFields fields, string name)
    {
        if (!fields.Has(name))
        {
            fields.Faults.Add(fields.PathOf(name), "is required");
        }
    }

    private static int? NodeLostTimeout(JsonFields fields)
    {
        var seconds = fields.Integer("nodeLostTimeout", 0, 604_800);
        if (seconds is > 0 and < 10)
        {
            fields.Faults.Add(fields.PathOf("nodeLostTimeout"), $"must be 0, for never, or 10 to 604800, was {seconds}");
        }

        return seconds;
    }

    private static FunctionSpec Merge(JsonFields fields, FunctionSpec now)
    {
        fields.Text("runtime", 64, text => text == Runtime, $"must be '{Runtime}'");
        foreach (var (name, instead) in NotOffered)
        {
            if (fields.Flag(name) == true)
            {
                fields.Faults.Add(fields.PathOf(name), $"must be false{instead}");
            }
        }

        var gpu = fields.Object("gpuConfig") is { } named ? Gpu(named) : now.Gpu;
        var cards = GpuCards.CountFor(gpu);
        var spec = now with
        {
            Description = fields.Text("description", 256) ?? now.Description,
            Runtime = Runtime,
            Handler = fields.Text("handler", 128) ?? now.Handler,
            Gpu = gpu,
            Cpu = fields.Steps("cpu", MinCpu, MaxCpu * cards, 20) ?? now.Cpu,
            MemoryMiB = fields.Integer("memorySize", MinMemoryMiB, gpu is null ? MaxMemoryMiB : MaxGpuFunctionMemoryMiB * cards, 64) ?? now.MemoryMiB,
            DiskMiB = Disk(fields) ?? now.DiskMiB,
            TimeoutSeconds = fields.Integer("timeout", 1, 86_400) ?? now.TimeoutSeconds,
            InstanceConcurrency = fields.Integer("instanceConcurrency", 1, 200) ?? now.InstanceConcurrency,
            IdleTimeoutSeconds = fields.Integer("idleTimeout", 1, 86_400) ?? now.IdleTimeoutSeconds,
            InternetAccess = fields.Flag("internetAccess") ?? now.InternetAccess,
            NodeLostTimeoutSeconds = NodeLostTimeout(fields) ?? now.NodeLostTimeoutSeconds,
            Environment = Environment(fields, now.Environment) ?? now.Environment,
            StoredFields = Stored(fields, now.StoredFields),
        };
        if (fields.Object("customContainerConfig") is { } container)
        {
            spec = spec with { Container = Container(container, now.Container) };
        }

        return fields.Object("instanceLifecycleConfig") is { } hooks
            ? spec with
            {
                Initializer = Hook(hooks, "initializer", 300, DefaultInitializerSeconds),
                PreStop = Hook(hooks, "preStop", 90, DefaultPreStopSeconds),
            }
            : spec;
    }

    /// <summary>
    /// Defaults that fit: where only one of processors and memory is named, the contract's default for the other could
    /// break the contract's own ratio, so the middle of the ratio is taken then.
    /// </summary>
    private static FunctionSpec FitResources(JsonFields fields, FunctionSpec blank)
    {
        if (fields.Has("gpuConfig") || fields.Has("cpu") == fields.Has("memorySize"))
        {
            return blank;
        }

        var quiet = new Faults();
        var named = fields.WithFaults(quiet);
        var memory = named.Integer("memorySize", MinMemoryMiB, MaxMemoryMiB, 64);
        var cpu = named.Steps("cpu", MinCpu, MaxCpu, 20);
        return memory is not null && !RatioFits(blank.Cpu, memory.Value)
            ? blank with { Cpu = Math.Ceiling(memory.Value / 2048.0 * 20) / 20 }
            : cpu is not null && !RatioFits(cpu.Value, blank.MemoryMiB)
                ? blank with { MemoryMiB = Math.Clamp((int)Math.Ceiling(cpu.Value * 2048 / 64) * 64, MinMemoryMiB, MaxMemoryMiB) }
                : blank;
    }

    private static bool RatioFits(double cpu, int memoryMiB) => memoryMiB >= (cpu * 1024) - 1e-6 && memoryMiB <= (cpu * 4096) + 1e-6;

    /// <summary>Rules over more than one field, so over the definition as it would become.</summary>
    private static void Check(FunctionSpec spec, Faults faults)
    {
        var cards = GpuCards.CountFor(spec.Gpu);
        if (spec.Gpu is null && !RatioFits(spec.Cpu, spec.MemoryMiB))
        {
            faults.Add("cpu, memorySize", FormattableString.Invariant(
                $"must have 1 to 4 GB of memory for each cpu without a GPU, were {spec.Cpu} and {spec.MemoryMiB} MB"));
        }

        // Changing the GPU alone can leave the others beyond what its cards allow.
        if (spec.Cpu > (MaxCpu * cards) + 1e-9)
        {
            faults.Add("cpu", FormattableString.Invariant($"must be at most {MaxCpu * cards} for {cards} card(s), was {spec.Cpu}"));
        }

        var maxMemory = spec.Gpu is null ? MaxMemoryMiB : MaxGpuFunctionMemoryMiB * cards;
        if (spec.MemoryMiB > maxMemory)
        {
            faults.Add("memorySize", $"must be at most {maxMemory} for {(spec.Gpu is null ? "a function without GPU" : $"{cards} card(s)")}, was {spec.MemoryMiB}");
        }

        if (spec.StoredFields.Sum(field => field.Value.Length) is > MaxStoredCharacters and var length)
        {
            faults.Add("body", $"fields that are only stored must have at most {MaxStoredCharacters} characters together, had {length}");
        }

        faults.Throw();
    }

    /// <summary>An object without fields takes the GPU away.</summary>
    private static GpuSpec? Gpu(JsonFields fields)
    {
        if (fields.IsEmpty)
        {
            return null;
        }

        var type = fields.Text("gpuType", 64,
            text => text.Length > 0 && text.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '-' or '_'),
            "must be a card type such as fc.gpu.tesla.1: 1 to 64 letters, digits, '.', '-' or '_'");
        var memory = fields.Integer("gpuMemorySize", 1_024, MaxGpuMemoryMiB, 1_024);
        Require(fields, "gpuType");
        Require(fields, "gpuMemorySize");
        return type is null || memory is null ? null : new GpuSpec(type, memory.Value);
    }

    private static int? Disk(JsonFields fields)
    {
        var quiet = new Faults();
        if (!fields.Has("diskSize"))
        {
            return null;
        }

        if (fields.WithFaults(quiet).Integer("diskSize", 512, 10_240) is 512 or 10_240)
        {
            return fields.Integer("diskSize", 512, 10_240);
        }

        fields.Faults.Add("diskSize", "must be 512 or 10240");
        return null;
    }

    private static IReadOnlyDictionary<string, string>? Environment(JsonFields fields, IReadOnlyDictionary<string, string> now)
    {
        if (fields.Map("environmentVariables") is not { } variables)
        {
            return null;
        }

        // Whoever sends back what was read does not have the value, and means it to stay.
        variables = variables.ToDictionary(
            variable => variable.Key,
            variable => IsSecret(variable.Key) && variable.Value == Hidden ? now.GetValueOrDefault(variable.Key, Hidden) : variable.Value,
            StringComparer.Ordinal);
        foreach (var name in variables.Keys)
        {
            if (name.Length == 0 || !char.IsAsciiLetter(name[0]) || !name.All(c => char.IsAsciiLetterOrDigit(c) || c == '_'))
            {
                fields.Faults.Add($"environmentVariables.{Names.Shown(name)}", "a name must start with a letter and have only letters, digits and '_'");
            }
            else if (name.StartsWith("FC_", StringComparison.Ordinal))
            {
                fields.Faults.Add($"environmentVariables.{Names.Shown(name)}", "names that start with FC_ are reserved");
            }
        }

        var bytes = variables.Sum(variable => Encoding.UTF8.GetByteCount(variable.Key) + Encoding.UTF8.GetByteCount(variable.Value));
        if (bytes > MaxEnvironmentBytes)
        {
            fields.Faults.Add("environmentVariables", $"names and values must have at most {MaxEnvironmentBytes} bytes together, had {bytes}");
        }

        return variables;
    }

    private static ContainerSpec Container(JsonFields fields, ContainerSpec now)
    {
        var image = fields.Text("image", 512,
            text => text.Length > 0 && text[0] != '-' && text.All(c => c is > ' ' and <= '~'),
            "must be an image reference of 1 to 512 printable characters without blanks");
        Require(fields, "image");
        var registry = fields.Object("registryConfig")?.Object("authConfig");
        if (fields.Object("registryConfig")?.Object("certConfig") is { } cert && (cert.Flag("insecure") == true || cert.Text("rootCaCertBase64", 65_536) is { Length: > 0 }))
        {
            // What an engine trusts, it trusts for all accounts.
            cert.Faults.Add(cert.PathOf("insecure, rootCaCertBase64"), "must be unset: which certificates of registries are trusted is set up at the nodes' engines (certs.d)");
        }

        var user = registry?.Text("userName", 256);
        var password = registry?.Text("password", 4096);
        return new ContainerSpec
        {
            Image = image ?? "",
            Port = fields.Integer("port", 1, 65_535) ?? 9000,
            Entrypoint = fields.Texts("entrypoint", 128, 16_384) ?? [],
            Command = fields.Texts("command", 128, 16_384) ?? [],
            HealthCheck = fields.Object("healthCheckConfig") is { IsEmpty: false } check ? HealthCheck(check) : null,
            RegistryUser = user,

            // It is never given back, so whoever sends back what was read does not have it.
            RegistryPassword = password ?? (user is not null && user == now.RegistryUser ? now.RegistryPassword : null),
        };
    }

    private static HealthCheckSpec HealthCheck(JsonFields fields) => new()
    {
        HttpGetUrl = fields.Text("httpGetUrl", 1024, text => text.StartsWith('/') && text.All(c => c is > ' ' and <= '~'),
            "must be a path that starts with '/'") ?? "/",
        InitialDelaySeconds = fields.Integer("initialDelaySeconds", 0, 120) ?? 0,
        PeriodSeconds = fields.Integer("periodSeconds", 1, 120) ?? 3,
        TimeoutSeconds = fields.Integer("timeoutSeconds", 1, 3) ?? 1,
        FailureThreshold = fields.Integer("failureThreshold", 1, 120) ?? 3,
        SuccessThreshold = fields.Integer("successThreshold", 1, 120) ?? 1,
    };

    private static HookSpec? Hook(JsonFields hooks, string name, int maxSeconds, int defaultSeconds)
    {
        if (hooks.Object(name) is not { IsEmpty: false } fields)
        {
            return null;
        }

        var handler = fields.Text("handler", 128) ?? "";
        var seconds = fields.Integer("timeout", 1, maxSeconds) ?? defaultSeconds;
        if (fields.Texts("command", 128, 16_384) is { Count: > 0 })
        {
            fields.Faults.Add(fields.PathOf("command"), "must be empty: hooks are HTTP requests to the container, and no commands are run in it");
        }

        return new HookSpec(handler, seconds);
    }

    private static Dictionary<string, string> Stored(JsonFields fields, IReadOnlyDictionary<string, string> now)
    {
        var stored = new Dictionary<string, string>(now);
        foreach (var (name, kind) in StoredOnly)
        {
            if (fields.Raw(name, kind) is { } text)
            {
                stored[name] = text;
            }
        }

        if (fields.Has("customContainerConfig"))
        {
            var container = fields.Object("customContainerConfig");
            var registry = container?.Object("registryConfig");
            Keep(StoredAcrInstanceId, container?.Raw("acrInstanceId", JsonValueKind.String));
            Keep(StoredAccelerationType, container?.Raw("accelerationType", JsonValueKind.String));
            Keep(StoredCertConfig, registry?.Raw("certConfig", JsonValueKind.Object));
            Keep(StoredNetworkConfig, registry?.Raw("networkConfig", JsonValueKind.Object));
        }

        return stored;

        void Keep(string name, string? text)
        {
            if (text is null)
            {
                stored.Remove(name);
            }
            else
            {
                stored[name] = text;
            }
        }
    }
}
