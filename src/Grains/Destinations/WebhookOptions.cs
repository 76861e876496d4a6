using System.ComponentModel.DataAnnotations;
using System.Net;

namespace GpuTasks.Destinations;

/// <summary>Where webhooks may go and how much of them goes at once. Configuration section <c>GpuTasks:Webhooks</c>.</summary>
public sealed class WebhookOptions : IValidatableObject
{
    /// <summary>Configuration section.</summary>
    public const string Section = "GpuTasks:Webhooks";

    /// <summary>Whether targets may be <c>http://</c>, unencrypted. Default false.</summary>
    public bool AllowHttp { get; set; }

    /// <summary>Ranges such as <c>10.1.0.0/16</c> or <c>fd00:1::/32</c> that may be reached although they are not public. Default none.</summary>
    public IList<string> AllowedRanges { get; } = [];

    /// <summary>How long one delivery may take, from the look-up of the name to the end of the answer's head: 1 s to 60 s, default 15 s.</summary>
    [Range(1, 60)]
    public int TimeoutSeconds { get; set; } = 15;

    /// <summary>Deliveries that one silo makes at once to one host and port for one account: 1 to 256, default 8.</summary>
    [Range(1, 256)]
    public int PerTarget { get; set; } = 8;

    /// <summary>Deliveries that one silo makes at once for one account: 1 to 4,096, default 64.</summary>
    [Range(1, 4_096)]
    public int PerAccount { get; set; } = 64;

    /// <inheritdoc />
    public IEnumerable<ValidationResult> Validate(ValidationContext validationContext) => AllowedRanges
        .Where(range => !IPNetwork.TryParse(range, out _))
        .Select(range => new ValidationResult($"'{range}' is no range such as 10.1.0.0/16; the bits after its length must be zero.", [nameof(AllowedRanges)]));
}
